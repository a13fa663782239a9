"""Two hosts train and test as one does, and end by themselves when their cable is pulled."""

from __future__ import annotations

import os

import pytest

from tests import two_hosts


@pytest.mark.skipif(os.environ.get("TWODPASS_TWO_HOSTS") != "1", reason="two minutes; TWODPASS_TWO_HOSTS=1 runs it")
def test_two_hosts_are_as_one(tmp_path) -> None:
    if not two_hosts.possible():
        pytest.skip("hosts of its own need root, ip, and network namespaces")
    assert two_hosts.trial(tmp_path) == []
