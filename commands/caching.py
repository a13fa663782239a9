"""The cache of a frozen teacher (`dataset_params.teacher_cache`) in a training: what is kept, and for which images."""

from __future__ import annotations

from dataloader.datamodule import DataModule
from dataloader.datasets.source import SourceWithPictures
from dataloader.experiment import Experiment
from network.models.segmentation_network import SegmentationNetwork
from network.teachers.cache import announce
from network.teachers.foundation import FoundationTeacher
from network.training.teacher_features import TeacherFeatures
from utils.command.devices import say_first
from utils.config.data import PointImageDataset
from utils.feature_files import FeatureFiles
from utils.paths import expand_home


def keep_features(experiment: Experiment, data: DataModule, network: SegmentationNetwork) -> list[TeacherFeatures]:
    """Lets the training items of an experiment have kept features in place of images, if its config asks for it.

    Returns:
        The callback that computes what is missing, in a list; empty without such a cache.

    Raises:
        UserError: the folder's name begins with a home that is not there, or its disk has not enough room.
        OSError: it cannot be made; the error names it.
    """
    params, training_set = experiment.config.dataset_params, data.training_set
    assert training_set is not None
    if not isinstance(params, PointImageDataset) or params.teacher_cache is None:
        return []
    source, teacher = training_set.source, getattr(network, "image_branch", None)
    assert isinstance(source, SourceWithPictures) and isinstance(teacher, FoundationTeacher)
    encoder = teacher.encoder
    folder = expand_home(params.teacher_cache, key="teacher_cache")
    # Autocast and tf32 change the features: what is kept is what the same training would compute at every step.
    model = f"{encoder.identity}|{experiment.devices.precision}"
    files = FeatureFiles(folder, model, encoder.dimensions, encoder.feature_size)
    cameras = range(training_set.source.num_cameras)
    pictures = [source.picture(index, camera) for index in range(len(training_set)) for camera in cameras]
    if lines := announce(files, pictures, encoder):
        files.folder.mkdir(parents=True, exist_ok=True)  # before there is a run folder
    for line in lines:
        say_first(line)
    source.features = files
    return [TeacherFeatures(files, pictures, encoder, source.pixels_of)]
