"""A real Kafka broker for tests and benchmarks: one process on the loopback interface, gone when its user is gone."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VERSION = "4.1.1"
# The watchdog's standard input is a pipe that only its user holds: when the user ends, however it ends, so does the
# broker. A line asks for an orderly end.
WATCHDOG = """
import subprocess, sys, threading
log = open(sys.argv[1], "ab")
broker = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
def guard():
    if sys.stdin.readline():
        broker.terminate()
        try:
            broker.wait(5)
        except subprocess.TimeoutExpired:
            pass
    broker.kill()
threading.Thread(target=guard, daemon=True).start()
while broker.returncode is None:
    try:
        broker.wait()
    except KeyboardInterrupt:
        pass
"""
# One node that is broker and controller, with the smallest internal topics, and groups that react at once.
SETTINGS = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
log.dirs={data}
num.partitions=4
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
"""


def libraries() -> Path:
    """Give the folder that `inv installs.kafka` fills; it is outside the repository."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "model_name" / f"kafka-{VERSION}"


def missing() -> str | None:
    """Say what is missing to start a broker, if anything is."""
    if shutil.which("java") is None:
        return "Apache Kafka needs Java 17 or newer, and there is no java: install a JRE"
    if not libraries().is_dir():
        return "Apache Kafka is not installed: run `inv installs.kafka`"
    return None


class Broker:
    """A broker with its own data; `stop` and `start` restart it with the same data at the same address."""

    def __init__(self, *java: str, settings: str = "") -> None:
        """Format its storage in a temporary folder; `java` are options of its machine, `settings` win over ours."""
        self.folder = tempfile.TemporaryDirectory(prefix="kafka-", ignore_cleanup_errors=True)
        self.java = [
            "java",
            "-Xmx512m",
            "-XX:+UseSerialGC",
            *java,
            "-cp",
            f"{libraries()}{os.sep}*",
        ]
        self.port, controller = _free_ports(2)
        self.settings, self.log = (
            Path(self.folder.name, "server.properties"),
            Path(self.folder.name, "log"),
        )
        data = Path(self.folder.name, "data").as_posix()
        self.settings.write_text(
            SETTINGS.format(port=self.port, controller=controller, data=data) + settings
        )
        tool = ["kafka.tools.StorageTool", "format", "--standalone", "-t", "AAAAAAAAQACAAAAAAAAAAQ"]
        subprocess.run(
            [*self.java, *tool, "-c", str(self.settings)], check=True, capture_output=True
        )
        self.start()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [
            sys.executable,
            "-I",
            "-c",
            WATCHDOG,
            str(self.log),
            *self.java,
            "kafka.Kafka",
            str(self.settings),
        ]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        client = AdminClient(
            {"bootstrap.servers": self.address, "log_level": 0, "reconnect.backoff.max.ms": 200}
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(KafkaException):
                client.list_topics(timeout=1)
                return
        self.stop()
        raise RuntimeError(
            f"the broker did not start:\n{self.log.read_text(errors='replace')[-2_000:]}"
        )

    def stop(self) -> None:
        """End it in order; its data stay."""
        if self.process.poll() is None and self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write("stop\n")
                self.process.stdin.close()
            self.process.wait(30)

    def close(self) -> None:
        """End it, and remove its data."""
        self.stop()
        self.folder.cleanup()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
