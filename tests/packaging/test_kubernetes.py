"""Whether Kubernetes would take the example, as far as its schema says. It is not run in a cluster."""

from __future__ import annotations

import kubernetes_validate
import pytest
import yaml

from tests.support.machine import ROOT

DOCUMENTS = list(yaml.safe_load_all((ROOT / "docs/kubernetes/sidecar.yaml").read_text()))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document["kind"])
def test_the_example_is_of_kubernetes_schema(document: dict[str, object]) -> None:
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_the_daemon_is_a_native_sidecar_with_its_state_and_the_sockets_folder_on_volumes() -> None:
    spec = DOCUMENTS[0]["spec"]["template"]["spec"]
    [daemon] = spec["initContainers"]
    assert daemon["restartPolicy"] == "Always"
    mounts = {mount["mountPath"]: mount["name"] for mount in daemon["volumeMounts"]}
    assert {"/var/lib/appstatsd": "state", "/run/appstatsd": "socket"}.items() <= mounts.items()
    [proxy] = spec["containers"]
    assert proxy["securityContext"]["runAsGroup"] == daemon["securityContext"]["runAsGroup"]
