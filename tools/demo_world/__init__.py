"""A procedural street seen by a spinning LiDAR and by cameras, for a data set that needs no download.

    world      a street (built by layout from objects and scenery) at a time -> Scene
    raycast    Scene, rays -> Hits: the one place where a surface is found, for every sensor
    surfaces   Hits -> positions and normals
    lidar      Scene, pose, beams -> Sweep
    camera     Scene, pose, intrinsics -> Picture
    semantickitti   writes what the sensors see as a SemanticKITTI tree
    nuscenes        the same as a nuScenes tree; _rig: drives and sensors, _labels: categories, _tables: records

The sensors know poses and intrinsics, and nothing of a data set's folders and label ids.
"""
