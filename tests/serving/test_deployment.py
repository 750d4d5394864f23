"""The files for TensorFlow Serving and for clusters: they cannot be run here, so they are checked against our code,
the server's messages and Kubernetes' schemas."""

import json
import re
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from distributed.cli.dask_scheduler import main as dask_scheduler
from distributed.cli.dask_worker import main as dask_worker
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from ggn_tf.cli.fit import command as fit
from ggn_tf.cli.listen import command as listen
from ggn_tf.cli.prepare import command as prepare
from ggn_tf.cli.study import command as study
from ggn_tf.serving.contract.wire import LARGEST_BATCH, MODEL_NAME, PORT, WARMUP_BATCHES
from ggn_tf.serving.runtime.batching import read_batching_parameters
from ggn_tf.training.distributed.cluster import Rank, rank_of
from tests.support.ohif import CONFIGURATION, HEADERS, VERSION
from tests.support.orthanc import FOLDER as ORTHANC

FOLDER = Path(__file__).parents[2] / "serving"
SERVICE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"]["tensorflow-serving"]
PACS = yaml.safe_load((FOLDER / "compose.pacs.yaml").read_text(encoding="utf-8"))
MANIFESTS = {
    f"{folder}/{manifest['kind']}": manifest
    for folder in ("kubernetes", "preparing", "study", "training")
    for file in sorted((FOLDER / folder).glob("*.yaml"))
    for manifest in yaml.safe_load_all(file.read_text(encoding="utf-8"))
}
POD = MANIFESTS["kubernetes/Deployment"]["spec"]["template"]
CONTAINER = POD["spec"]["containers"][0]
JOB = MANIFESTS["training/Job"]
TRAINER = JOB["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("version", ["1.30", "1.34"])
@pytest.mark.parametrize("name", MANIFESTS)
def test_every_manifest_is_valid_by_kubernetes_own_schema(name, version):
    kubernetes_validate.validate(MANIFESTS[name], version, strict=True)


def read_only_mounts(container):
    return {mount["name"] for mount in container["volumeMounts"] if mount.get("readOnly")}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (SERVICE["read_only"], True),
        (SERVICE["cap_drop"], ["ALL"]),
        (SERVICE["security_opt"], ["no-new-privileges:true"]),
        (SERVICE["ports"], [f"127.0.0.1:{port}:{port}" for port in (PORT, 8501)]),
        (all(volume.endswith(":ro") for volume in SERVICE["volumes"]), True),
        (CONTAINER["securityContext"]["readOnlyRootFilesystem"], True),
        (CONTAINER["securityContext"]["allowPrivilegeEscalation"], False),
        (CONTAINER["securityContext"]["capabilities"], {"drop": ["ALL"]}),
        (POD["spec"]["securityContext"]["runAsNonRoot"], True),
        (POD["spec"]["volumes"][0]["persistentVolumeClaim"], {"claimName": "ggn-models", "readOnly": True}),
        (read_only_mounts(CONTAINER), {"models", "config"}),
        (TRAINER["securityContext"]["readOnlyRootFilesystem"], True),
        (read_only_mounts(TRAINER), {"dataset"}),
    ],
)
def test_containers_have_few_rights(found, expected):
    assert found == expected


def test_models_and_batches_are_those_of_our_code():
    text = (FOLDER / "models.config").read_text(encoding="utf-8")
    (model,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert (model.name, model.base_path) == (MODEL_NAME, f"/models/{MODEL_NAME}")
    assert model.model_version_policy.latest.num_versions == 1
    batching = read_batching_parameters(FOLDER / "batching.config")
    assert batching.max_batch_size == LARGEST_BATCH
    assert set(WARMUP_BATCHES) <= set(batching.allowed_batch_sizes)


def test_every_file_that_a_flag_names_exists_and_is_mounted():
    mounts = {target: source for source, target in (volume[:-3].rsplit(":", 1) for volume in SERVICE["volumes"])}
    assert mounts.pop("/models") == "${MODELS:-../models}"
    assert set(mounts) == {flag.split("=")[1] for flag in SERVICE["command"] if re.match(r"--\w+_file=", flag)}
    assert all((FOLDER / source).is_file() for source in mounts.values())


def test_the_cluster_has_image_flags_and_files_of_the_compose_file():
    assert CONTAINER["image"] == SERVICE["image"].replace("${TF_SERVING_VERSION:-", "").rstrip("}")
    assert (CONTAINER["command"], CONTAINER["args"]) == (SERVICE["entrypoint"], SERVICE["command"])
    files = ("models.config", "batching.config", "monitoring.config")
    data = MANIFESTS["kubernetes/ConfigMap"]["data"]
    assert data == {name: (FOLDER / name).read_text(encoding="utf-8") for name in files}


def test_archive_and_node_know_each_other():
    node, orthanc = PACS["services"]["ggn-tf"], PACS["services"]["orthanc"]
    given = listen.make_context("listen", node["command"][2:]).params
    settings = json.loads(orthanc["environment"]["ORTHANC_JSON"])
    assert node["command"][:2] == ["ggn-tf", "listen"] and given["known_aets"] == (settings["DicomAet"],)
    (alias,) = settings["DicomModalities"]
    assert settings["DicomModalities"][alias] == [given["aet"], "ggn-tf", given["port"]]
    assert f"/modalities/{alias}/store" in (FOLDER / "routing.lua").read_text(encoding="utf-8")
    assert settings["LuaScripts"] == [orthanc["volumes"][1].split(":")[1]]
    assert given["server"] == f"tensorflow-serving:{PORT}" and given["send_to"] == "dicom://ORTHANC@orthanc:4242"
    assert str(given["queue"]) == node["volumes"][0].split(":")[1] and set(PACS["volumes"]) == {"orthanc", "queue"}
    assert all(port.startswith("127.0.0.1:") for port in orthanc["ports"]) and "ports" not in node
    assert (node["read_only"], node["cap_drop"], node["security_opt"]) == (
        True,
        SERVICE["cap_drop"],
        SERVICE["security_opt"],
    )
    copied = re.findall(r"COPY (.*) /", node["build"]["dockerfile_inline"])
    assert all((FOLDER.parent / name).exists() for names in copied for name in names.split())


def test_the_viewer_is_the_one_that_is_tested():
    """Its release, its configuration, and the headers and the archive's path that the tests' proxy serves."""
    viewer, given = PACS["services"]["ohif"], (FOLDER / "ohif" / "nginx.conf").read_text(encoding="utf-8")
    build = viewer["build"]["dockerfile_inline"]
    installed = (FOLDER.parent / "scripts" / "environment.sh").read_text(encoding="utf-8")
    version, digest = re.search(r"version=(\S+) digest=(\w+)", installed).groups()
    assert version == VERSION
    assert f"ADD --checksum=sha256:{digest} https://registry.npmjs.org/@ohif/app/-/app-{version}.tgz" in build
    assert build.startswith("# syntax=docker/dockerfile:1\n")
    assert set(re.findall(r"COPY --chmod=644 (\S+)", build)) == {CONFIGURATION.name, "nginx.conf"}
    assert CONFIGURATION.parent == FOLDER / viewer["build"]["context"]
    assert dict(re.findall(r"add_header (\S+) (\S+) always;", given)) == HEADERS
    roots = re.findall(r"(?:qido|wado)Root: '(.+)'", CONFIGURATION.read_text(encoding="utf-8"))
    assert set(roots) == {"/dicom-web"}
    # UIDs end with a dot and numbers, and must not be taken for files with an extension.
    assert re.findall(r"location (.+) {", given) == ["/", r"~ \.[a-z]\w*$", "^~ /dicom-web/"]
    assert "proxy_pass http://orthanc:8042;" in given and "orthanc" in viewer["depends_on"]
    assert viewer["ports"] == [f"127.0.0.1:3000:{re.search(r'listen (.+);', given)[1]}"]
    assert viewer["read_only"] and viewer["cap_drop"] == ["ALL"]


@pytest.mark.skipif(not (ORTHANC / "etc").is_dir(), reason="Orthanc is not unpacked in .venv")
def test_the_archives_settings_are_those_that_orthanc_knows():
    known = re.findall(r'"(\w+)" *:', (ORTHANC / "etc/orthanc/orthanc.json").read_text(encoding="utf-8"))
    assert json.loads(PACS["services"]["orthanc"]["environment"]["ORTHANC_JSON"]).keys() <= {*known}


def test_selectors_ports_and_probes_name_what_there_is():
    labels, specs = POD["metadata"]["labels"], {name: manifest.get("spec") for name, manifest in MANIFESTS.items()}
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert specs[f"kubernetes/{kind}"]["selector"]["matchLabels"].items() <= labels.items()
    assert specs["kubernetes/Service"]["selector"].items() <= labels.items()
    assert specs["kubernetes/NetworkPolicy"]["podSelector"]["matchLabels"].items() <= labels.items()
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert ports == {port["targetPort"]: port["port"] for port in specs["kubernetes/Service"]["ports"]}
    assert [f"--port={ports['grpc']}", f"--rest_api_port={ports['http']}"] == CONTAINER["args"][:2]
    for probe in ("startupProbe", "readinessProbe"):
        assert CONTAINER[probe]["httpGet"] == {"path": f"/v1/models/{MODEL_NAME}", "port": "http"}
    target = specs["kubernetes/HorizontalPodAutoscaler"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", MANIFESTS["kubernetes/Deployment"]["metadata"]["name"])
    assert set(CONTAINER["resources"]["requests"]) == {"cpu", "memory"}


def test_the_jobs_run_our_commands():
    (preparing,) = MANIFESTS["preparing/Job"]["spec"]["template"]["spec"]["containers"]
    params = prepare.make_context("prepare", preparing["args"][: preparing["args"].index("--")]).params
    assert (params["runner"], params["allow_rejects"]) == ("beam", True)
    assert TRAINER["args"][:2] == ["ggn-tf", "fit"]
    assert fit.make_context("fit", TRAINER["args"][2:]).params["strategy"] == "multiworker"


@pytest.mark.parametrize("index", [0, 1])
def test_each_training_pod_knows_its_rank(index):
    environment = {"JOB_COMPLETION_INDEX": str(index), "PATH": "/usr/bin:/bin"}
    config = subprocess.check_output([*TRAINER["command"], "printenv", "TF_CONFIG"], env=environment, text=True)
    rank = Rank("multiworker", index, JOB["spec"]["completions"])
    assert rank_of("multiworker", {"TF_CONFIG": config}) == rank
    service, port = MANIFESTS["training/Service"]["metadata"]["name"], TRAINER["ports"][0]["containerPort"]
    assert f"{JOB['metadata']['name']}-{index}.{service}:{port}" in config
    assert JOB["spec"]["template"]["spec"]["subdomain"] == service


def test_only_training_pods_reach_each_other():
    labels, policy = JOB["spec"]["template"]["metadata"]["labels"], MANIFESTS["training/NetworkPolicy"]["spec"]
    selectors = (policy["podSelector"]["matchLabels"], MANIFESTS["training/Service"]["spec"]["selector"])
    assert selectors == (labels, labels)
    assert policy["ingress"][0]["from"] == [{"podSelector": {"matchLabels": labels}}]


STUDY = MANIFESTS["study/Job"]["spec"]["template"]
WORKERS = MANIFESTS["study/Deployment"]["spec"]["template"]


def test_study_and_workers_reach_the_scheduler_and_the_same_folders():
    (command,), (worker,) = STUDY["spec"]["containers"], WORKERS["spec"]["containers"]
    assert command["args"][:2] == ["ggn-tf", "study"]
    params = study.make_context("study", command["args"][2:]).params
    port = MANIFESTS["study/Service"]["spec"]["ports"][0]["port"]
    assert params["cluster"] == f"tcp://127.0.0.1:{port}"
    assert MANIFESTS["study/Service"]["spec"]["selector"].items() <= STUDY["metadata"]["labels"].items()
    line = re.fullmatch(r'dask scheduler (.+) & exec "\$@"', command["command"][2])
    assert dask_scheduler.make_context("scheduler", line[1].split()).params["port"] == str(port)
    params = dask_worker.make_context("worker", list(worker["args"])).params
    assert params["scheduler"] == f"tcp://{MANIFESTS['study/Service']['metadata']['name']}:{port}"
    assert (params["nthreads"], params["n_workers"], params["memory_limit"]) == (1, "1", "0")
    assert command["volumeMounts"] == worker["volumeMounts"]
    assert STUDY["spec"]["volumes"] == WORKERS["spec"]["volumes"]


def test_only_pods_of_the_study_reach_its_scheduler_and_workers():
    policy = MANIFESTS["study/NetworkPolicy"]["spec"]
    labels = policy["podSelector"]["matchLabels"]
    assert all(labels.items() <= pod["metadata"]["labels"].items() for pod in (STUDY, WORKERS))
    assert policy["ingress"] == [{"from": [{"podSelector": {"matchLabels": labels}}]}]


def test_the_slurm_job_gives_workers_and_command_one_encrypted_scheduler(tmp_path):
    """Runs with programs in place of the cluster's: they write down how they were called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("srun", "dask", "ggn-tf"):
        log = f'echo "{name} $* $DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION" >> {tmp_path}/calls'
        check = 'grep -q "BEGIN CERT" "$DASK_DISTRIBUTED__COMM__TLS__CA_FILE" || exit 5'
        check += ' ; grep -q "PRIVATE KEY" "$DASK_DISTRIBUTED__COMM__TLS__WORKER__KEY" || exit 6'
        (programs / name).write_text(f"#!/bin/sh\n{log}\n{check}\nsleep 0.2\n")
        (programs / name).chmod(0o755)
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(tmp_path), "SLURM_JOB_ID": "123456"}
    command = ["bash", str(FOLDER / "study" / "study.sbatch"), "/data/set", "/data/study", "--repeats=2"]
    subprocess.run(command, env=environment, check=True)
    address = f"tls://{subprocess.check_output(['hostname'], text=True).strip()}:23456"
    calls = sorted((tmp_path / "calls").read_text().splitlines())
    assert calls[1] == f"ggn-tf study /data/set -o /data/study --cluster {address} --repeats=2 True"
    assert calls[0] == "dask scheduler --protocol tls --port 23456 --no-dashboard True"
    worker = calls[2].removesuffix(" True").split()
    assert worker[:4] == ["srun", "--kill-on-bad-exit=0", "dask", "worker"]
    params = dask_worker.make_context("worker", worker[4:]).params
    assert (params["scheduler"], params["nthreads"], params["memory_limit"]) == (address, 1, "0")
    assert not list(tmp_path.glob(".ggn-study.*"))
