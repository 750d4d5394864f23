"""The files for the real server: it cannot be run here, so they are held to its messages and to our code."""

import copy
import re
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from ggn_tf.cli.fit import command as fit
from ggn_tf.cli.prepare import command as prepare
from ggn_tf.serving.contract.names import LARGEST_BATCH, MODEL_NAME, PORT, WARMUP_BATCHES
from ggn_tf.serving.runtime.batching import read_batching_parameters
from ggn_tf.serving.server.tensorflow_model_server import DEFAULT_IMAGE
from ggn_tf.training.distributed.cluster import Rank, rank_of

FOLDER = Path(__file__).parents[2] / "serving"
SERVICE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"]["tensorflow-serving"]


def mounts():
    """Source by target, of the read-only volumes."""
    parsed = (re.fullmatch(r"(?P<source>.+):(?P<target>/[^:]+):ro", volume) for volume in SERVICE["volumes"])
    return {match["target"]: match["source"] for match in parsed}


def test_the_model_config_is_one_and_names_the_model_as_clients_do():
    config = text_format.Parse(
        (FOLDER / "models.config").read_text(encoding="utf-8"), model_server_config_pb2.ModelServerConfig()
    ).model_config_list.config
    assert [(model.name, model.base_path) for model in config] == [(MODEL_NAME, f"/models/{MODEL_NAME}")]
    assert config[0].model_version_policy.latest.num_versions == 1


def test_every_volume_is_read_only_and_every_mounted_file_exists():
    assert len(mounts()) == len(SERVICE["volumes"])
    assert mounts().pop("/models") == "${MODELS:-../models}"
    files = {target: source for target, source in mounts().items() if target != "/models"}
    assert all((FOLDER / source).is_file() for source in files.values())


def test_every_file_that_a_flag_names_is_mounted():
    named = {flag.split("=")[1] for flag in SERVICE["command"] if flag.split("=")[0].endswith("_file")}
    assert named == set(mounts()) - {"/models"}


def test_ports_are_published_on_loopback_only():
    assert SERVICE["ports"] == [f"127.0.0.1:{port}:{port}" for port in (PORT, 8501)]
    assert f"--port={PORT}" in SERVICE["command"]


def test_batches_are_as_large_as_the_clients_and_the_warm_up():
    text = (FOLDER / "batching.config").read_text(encoding="utf-8")
    largest = int(re.search(r"^max_batch_size \{ value: (\d+) \}$", text, re.M)[1])
    allowed = [int(size) for size in re.findall(r"^allowed_batch_sizes: (\d+)$", text, re.M)]
    assert largest == LARGEST_BATCH == allowed[-1]
    assert allowed == sorted(set(allowed)) and set(WARMUP_BATCHES) <= set(allowed)


def test_the_batching_file_is_one_that_the_scheduler_takes():
    assert read_batching_parameters(FOLDER / "batching.config").max_batch_size == LARGEST_BATCH


MANIFESTS = [
    manifest
    for file in sorted((FOLDER / "kubernetes").glob("*.yaml"))
    for manifest in yaml.safe_load_all(file.read_text(encoding="utf-8"))
]
BY_KIND = {manifest["kind"]: manifest for manifest in MANIFESTS}
POD = BY_KIND["Deployment"]["spec"]["template"]
CONTAINER = POD["spec"]["containers"][0]


@pytest.mark.parametrize("version", ["1.30", "1.34"])
@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
def test_every_manifest_is_valid_by_kubernetes_own_schema(manifest, version):
    kubernetes_validate.validate(manifest, version, strict=True)


def test_a_manifest_that_is_not_valid_would_be_found():
    wrong = copy.deepcopy(BY_KIND["Deployment"])
    wrong["spec"]["template"]["spec"]["containers"][0]["imagePullPolicies"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.30", strict=True)


def test_everything_that_belongs_together_is_there():
    assert set(BY_KIND) == {
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
    }


def test_the_cluster_serves_with_the_flags_and_files_of_the_compose_file():
    assert CONTAINER["args"] == SERVICE["command"]
    assert CONTAINER["command"] == SERVICE["entrypoint"]
    files = ("models.config", "batching.config", "monitoring.config")
    assert BY_KIND["ConfigMap"]["data"] == {name: (FOLDER / name).read_text(encoding="utf-8") for name in files}


def test_one_image_is_named_everywhere():
    assert CONTAINER["image"] == DEFAULT_IMAGE == SERVICE["image"].replace("${TF_SERVING_VERSION:-", "").rstrip("}")


def test_the_container_may_write_and_become_nothing():
    security = CONTAINER["securityContext"]
    assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert POD["spec"]["securityContext"]["runAsNonRoot"] and POD["spec"]["securityContext"]["runAsUser"] != 0
    mounted = {mount["name"]: mount.get("readOnly", False) for mount in CONTAINER["volumeMounts"]}
    assert mounted == {"models": True, "config": True, "scratch": False}
    volumes = {volume["name"]: volume for volume in POD["spec"]["volumes"]}
    assert volumes["models"]["persistentVolumeClaim"]["readOnly"]


def test_selectors_ports_and_probes_name_what_there_is():
    labels = POD["metadata"]["labels"]
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert BY_KIND[kind]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert BY_KIND["Service"]["spec"]["selector"].items() <= labels.items()
    assert BY_KIND["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert ports == {port["targetPort"]: port["port"] for port in BY_KIND["Service"]["spec"]["ports"]}
    assert [f"--port={ports['grpc']}", f"--rest_api_port={ports['http']}"] == CONTAINER["args"][:2]
    probed = [CONTAINER[probe] for probe in ("startupProbe", "readinessProbe")]
    assert all(probe["httpGet"] == {"path": f"/v1/models/{MODEL_NAME}", "port": "http"} for probe in probed)
    target = BY_KIND["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", BY_KIND["Deployment"]["metadata"]["name"])
    assert set(CONTAINER["resources"]["requests"]) == {"cpu", "memory"}


@pytest.mark.parametrize("version", ["1.30", "1.34"])
def test_the_job_that_prepares_is_valid_and_its_options_are_ours(version):
    job = yaml.safe_load((FOLDER / "preparing" / "job.yaml").read_text(encoding="utf-8"))
    kubernetes_validate.validate(job, version, strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    ours = container["args"][: container["args"].index("--")]
    context = prepare.make_context("prepare", list(ours))
    assert (context.params["runner"], context.params["allow_rejects"]) == ("beam", True)


TRAINING = {
    manifest["kind"]: manifest
    for manifest in yaml.safe_load_all((FOLDER / "training" / "job.yaml").read_text(encoding="utf-8"))
}
TRAINER = TRAINING["Job"]["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("version", ["1.30", "1.34"])
@pytest.mark.parametrize("kind", ["Job", "NetworkPolicy", "Service"])
def test_the_training_is_valid_by_kubernetes_own_schema(kind, version):
    kubernetes_validate.validate(TRAINING[kind], version, strict=True)


@pytest.mark.parametrize("index", [0, 1])
def test_each_pod_learns_who_it_is(index):
    shell, environment = TRAINER["command"], {"JOB_COMPLETION_INDEX": str(index), "PATH": "/usr/bin:/bin"}
    told = subprocess.check_output([*shell, "printenv", "TF_CONFIG"], env=environment, text=True)
    place = Rank("multiworker", index, TRAINING["Job"]["spec"]["completions"])
    assert rank_of("multiworker", {"TF_CONFIG": told}) == place
    job, service, port = TRAINING["Job"], TRAINING["Service"]["metadata"]["name"], TRAINER["ports"][0]["containerPort"]
    assert f"{job['metadata']['name']}-{index}.{service}:{port}" in told
    assert job["spec"]["template"]["spec"]["subdomain"] == service


def test_the_pods_run_our_command_and_only_they_reach_its_port():
    program, command, *options = TRAINER["args"]
    assert (program, command) == ("ggn-tf", "fit")
    assert fit.make_context("fit", options).params["strategy"] == "multiworker"
    labels = TRAINING["Job"]["spec"]["template"]["metadata"]["labels"]
    policy = TRAINING["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == TRAINING["Service"]["spec"]["selector"] == labels
    assert policy["ingress"][0]["from"] == [{"podSelector": {"matchLabels": labels}}]
    assert TRAINER["securityContext"]["readOnlyRootFilesystem"]
    assert {mount["name"] for mount in TRAINER["volumeMounts"] if mount.get("readOnly")} == {"dataset"}
