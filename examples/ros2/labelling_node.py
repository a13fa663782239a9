"""A node of ROS 2 that labels the clouds of a topic: `/points` in, `/points/labelled` out.

python3 -m examples.ros2.labelling_node --ros-args -p checkpoint:=best.ckpt -p topic:=/points -p device:=cuda
"""

from __future__ import annotations

import array

import rclpy  # pyright: ignore[reportMissingImports]
from rclpy.executors import ExternalShutdownException  # pyright: ignore[reportMissingImports]
from rclpy.node import Node  # pyright: ignore[reportMissingImports]
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy  # pyright: ignore[reportMissingImports]
from sensor_msgs.msg import PointCloud2, PointField  # pyright: ignore[reportMissingImports]
from std_msgs.msg import String  # pyright: ignore[reportMissingImports]

from examples.ros2.conversion import labelled_values
from network.segmenter import Segmenter
from utils.errors import UserError, one_line
from utils.results.labelled_cloud import classes_text


class LabellingNode(Node):
    """A node that publishes each cloud it gets again, with labels; of clouds that come too fast it takes the newest."""

    def __init__(self) -> None:
        super().__init__("labelling")
        checkpoint = self.declare_parameter("checkpoint", "").value
        topic = self.declare_parameter("topic", "/points").value
        device = self.declare_parameter("device", "").value
        fit = self.declare_parameter("fit", "warn").value
        if not checkpoint:
            raise UserError("say which network with -p checkpoint:=FILE")
        self._segmenter = Segmenter.load(checkpoint, device=device or None, fit=fit)
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._clouds = self.create_publisher(PointCloud2, f"{topic}/labelled", QoSProfile(depth=1))
        self._classes = self.create_publisher(String, f"{topic}/labelled/classes", kept)
        self._classes.publish(String(data=classes_text(self._segmenter.label_map)))
        self._subscription = self.create_subscription(PointCloud2, topic, self._label, newest)

    def _label(self, message: PointCloud2) -> None:
        try:
            values = labelled_values(message, self._segmenter)
        except UserError as error:
            self.get_logger().warning(one_line(error), throttle_duration_sec=5.0)
            return
        values["fields"] = [PointField(**each) for each in values["fields"]]
        values["data"] = array.array("B", values["data"])  # anything else is copied byte by byte
        self._clouds.publish(PointCloud2(header=message.header, **values))


def main() -> None:
    """Runs the node until it is stopped."""
    rclpy.init()
    try:
        rclpy.spin(LabellingNode())
    except UserError as error:
        raise SystemExit(f"error: {one_line(error)}") from None
    except (KeyboardInterrupt, ExternalShutdownException):  # SIGTERM, as `ros2 launch` sends it
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
