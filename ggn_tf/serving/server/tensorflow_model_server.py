"""The command line of the real TensorFlow Serving, for `ggn-tf serve --engine tensorflow_model_server`."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ggn_tf.errors import ServingError

PROGRAM = "tensorflow_model_server"
DEFAULT_IMAGE = "tensorflow/serving:2.20.0"
EVERY_INTERFACE = "0.0.0.0"


@dataclass(frozen=True)
class RealServer:
    """What to serve, and how.

    Attributes:
        folder: The model folder, for example MODELS/ggn.
        model_name: What clients call the model.
        host: The address to listen on.
        port: For gRPC.
        flags: Further flags in the server's own form, `--name=value`.
    """

    folder: Path
    model_name: str
    host: str
    port: int
    flags: tuple[str, ...] = ()

    @property
    def arguments(self) -> list[str]:
        """What the program is started with; paths are absolute."""
        return [
            f"--port={self.port}",
            f"--model_name={self.model_name}",
            f"--model_base_path={self.folder.absolute()}",
            *(_with_absolute_path(flag) for flag in self.flags),
        ]

    @property
    def mounts(self) -> list[Path]:
        """Whatever the flags name: the model folder, and files."""
        return [self.folder.absolute(), *(path for flag in self.flags if (path := _path(flag)) is not None)]

    def command(self) -> list[str]:
        """The command to run: the program where this machine has it, else its image.

        Raises:
            ServingError: The machine has neither, or the program cannot listen where it is told to.
        """
        program = shutil.which(PROGRAM)
        if program is not None:
            self._check_host()
            return [program, *self.arguments]
        docker = shutil.which("docker")
        image = image_name()
        if docker is None or subprocess.run([docker, "image", "inspect", image], capture_output=True).returncode:
            raise ServingError(
                "TensorFlow Serving is not on this machine.",
                case=PROGRAM,
                found="no such program on PATH, " + ("no docker" if docker is None else f"no image {image}"),
                expected="the program, or Docker with its image",
                remedy=f"docker pull {image}, or install tensorflow-model-server from its vendor's apt repository, or "
                "leave --engine away.",
            )
        return self._docker_command(docker, image)

    def _docker_command(self, docker: str, image: str) -> list[str]:
        ports = [
            self.port,
            *(flag.partition("=")[2] for flag in self.flags if flag.startswith("--rest_api_port=")),
        ]
        return [
            *(docker, "run", "--rm", "--init", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL"),
            *("--security-opt=no-new-privileges", f"--user={os.getuid()}:{os.getgid()}"),
            *(f"--publish={self.host}:{port}:{port}" for port in ports),
            *(f"--volume={path}:{path}:ro" for path in self.mounts),
            *(f"--entrypoint={PROGRAM}", image),
            *self.arguments,
        ]

    def _check_host(self) -> None:
        if self.host != EVERY_INTERFACE:
            raise ServingError(
                "TensorFlow Serving listens on every interface of the machine, without encryption.",
                case=PROGRAM,
                found=f"--host {self.host}",
                expected=f"--host {EVERY_INTERFACE}",
                remedy=f"Say so with --host {EVERY_INTERFACE} where a firewall stands in front; its Docker image "
                "can be kept to loopback.",
            )


def image_name() -> str:
    """The Docker image; TF_SERVING_VERSION names another one, as in serving/compose.yaml."""
    name, _, version = DEFAULT_IMAGE.partition(":")
    return f"{name}:{os.environ.get('TF_SERVING_VERSION', version)}"


def _path(flag: str) -> Path | None:
    named = re.fullmatch(r"--\w+_file=(.+)", flag)
    return Path(named[1]).absolute() if named else None


def _with_absolute_path(flag: str) -> str:
    path = _path(flag)
    return flag if path is None else f"{flag.partition('=')[0]}={path}"
