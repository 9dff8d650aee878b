"""QEMU's command line and control protocol."""

from __future__ import annotations

import dataclasses
import itertools
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pciedma_lab.qemu import ROOT_PORTS, Firmware, Guest
from pciedma_lab.qmp import Qmp, QmpError

HERE = Path("/x")
GUEST = Guest(HERE / "vmlinuz", HERE / "initramfs", HERE / "root", HERE, HERE / "results", HERE)


def options(guest: Guest, name: str, cards: tuple[str, ...] = ()) -> list[str]:
    command = guest.command(cards)
    return [value for option, value in itertools.pairwise(command) if option == name]


def test_memory_is_shared_so_that_models_can_reach_it() -> None:
    guest = dataclasses.replace(GUEST, memory_mib=512)
    assert options(guest, "-object") == ["memory-backend-memfd,id=ram,size=512M,share=on"]
    assert "memory-backend=ram" in options(guest, "-machine")[0]
    assert options(guest, "-m") == ["512M"]


def test_emulation_is_never_left_to_kvm() -> None:
    assert options(GUEST, "-accel") == ["tcg,thread=multi"]


def test_clock_that_counts_instructions_needs_one_thread() -> None:
    guest = dataclasses.replace(GUEST, icount=True)
    assert options(guest, "-accel") == ["tcg,thread=single"]
    assert options(guest, "-icount") == ["shift=0"]
    assert "-icount" not in GUEST.command()


def test_native_hotplug_takes_the_slots_from_acpi() -> None:
    guest = dataclasses.replace(GUEST, native_hotplug=True)
    assert options(guest, "-global") == ["ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]
    assert "-global" not in GUEST.command()


def test_installed_system_mounts_its_own_disk_and_may_write_to_it() -> None:
    guest = dataclasses.replace(GUEST, is_installed=True, words=("module.sig_enforce=1",))
    words = guest.kernel_command_line().split()
    assert {"root=LABEL=pciedma", "rw"} <= {*words}
    assert words[-1] == "module.sig_enforce=1"
    assert not any(word.startswith("rdinit=") for word in words)
    assert "rdinit=/init" in GUEST.kernel_command_line().split()
    assert options(GUEST, "-drive")[-1].endswith("readonly=on")
    assert options(guest, "-drive")[-1].endswith("readonly=off")


def test_firmware_boots_by_itself_and_guards_its_variables() -> None:
    guest = dataclasses.replace(GUEST, firmware=Firmware(HERE / "code", HERE / "a,b", HERE / "boot"))
    command = guest.command()
    assert not {"-kernel", "-initrd", "-append"} & {*command}
    assert {"smm=on", "pflash0=code", "pflash1=variables"} <= {*options(guest, "-machine")[0].split(",")}
    assert "driver=cfi.pflash01,property=secure,value=on" in options(guest, "-global")
    assert "driver=file,node-name=variables,filename=/x/a,,b" in options(guest, "-blockdev")
    assert "read-only=on" in options(guest, "-blockdev")[0]
    assert "if=none,id=boot,file=fat:/x/boot,format=raw,readonly=on" in options(guest, "-drive")


def test_shared_folders_keep_their_queues_through_a_suspend() -> None:
    guest = dataclasses.replace(GUEST, work=True, root_folder=True, modules=HERE)
    ports = {option.split("id=")[1].split(",")[0] for option in options(guest, "-device") if "root-port" in option}
    shares = [option for option in options(guest, "-device") if "virtio-9p" in option]
    assert len(shares) == 5
    for share in shares:
        assert share.endswith("x-pcie-pm-no-soft-reset=on")
        assert share.split("bus=")[1].split(",")[0] in ports


def test_work_is_shared_only_if_there_is_one_and_never_to_be_written() -> None:
    shared = [option for option in options(dataclasses.replace(GUEST, work=True), "-fsdev") if "id=work" in option]
    assert shared == ["local,id=work,path=/mnt/work,readonly=on,security_model=none,multidevs=remap"]
    assert not any("id=work" in option for option in options(GUEST, "-fsdev"))


def test_iommu_is_strict_when_asked_for_and_else_absent() -> None:
    guest = dataclasses.replace(GUEST, iommu=True)
    assert "intel-iommu,caching-mode=on" in options(guest, "-device")
    assert {"intel_iommu=on", "iommu.strict=1"} <= {*guest.kernel_command_line().split()}
    assert "kernel-irqchip=off" in options(guest, "-machine")[0]
    assert not any("iommu" in option for option in (*options(GUEST, "-device"), GUEST.kernel_command_line()))


def test_swiotlb_force_is_passed_to_the_kernel() -> None:
    assert "swiotlb=force" in dataclasses.replace(GUEST, swiotlb_force=True).kernel_command_line().split()
    assert "swiotlb" not in GUEST.kernel_command_line()


def test_a_busy_host_is_not_taken_for_a_broken_clock() -> None:
    assert {"tsc=reliable", "no_timer_check"} <= {*GUEST.kernel_command_line().split()}


def test_an_oops_ends_the_machine() -> None:
    assert {"oops=panic", "panic=-1"} <= {*GUEST.kernel_command_line().split()}
    assert "-no-reboot" in GUEST.command()


def test_cards_come_after_their_ports_and_edu_is_on_the_root_bus() -> None:
    card = '{"driver":"vfio-user-pci","bus":"port0"}'
    devices = options(dataclasses.replace(GUEST, edu=2), "-device", (card,))
    ports = [n for n, device in enumerate(devices) if device.startswith("pcie-root-port,id=port")]
    assert len(ports) == ROOT_PORTS
    assert devices.index(card) > max(ports)
    assert [device for device in devices if device.startswith("edu")] == ["edu,id=edu0", "edu,id=edu1"]


def test_paths_with_commas_are_quoted() -> None:
    guest = dataclasses.replace(GUEST, results=Path("/a,b"))
    assert any("path=/a,,b," in value for value in options(guest, "-fsdev"))


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """A monitor that sends an event before each answer, refuses ``bad``, and ends in the midst of what ``die`` gets."""
    received: list[dict[str, Any]] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "qmp"))
    listener.listen()

    def serve() -> None:
        client, _ = listener.accept()
        with client, client.makefile("rw") as file:
            print(json.dumps({"QMP": {}}), file=file, flush=True)
            for line in file:
                request = json.loads(line)
                received.append(request)
                print(json.dumps({"event": "DEVICE_DELETED", "data": {"device": "card0"}}), file=file)
                answer: dict[str, Any] = {"return": {"n": len(received)}}
                if request["execute"] == "bad":
                    answer = {"error": {"desc": "no such thing"}}
                if request["execute"] == "die":
                    file.write(json.dumps(answer)[:-1])
                    return
                print(json.dumps(answer), file=file, flush=True)

    thread = threading.Thread(target=serve)
    thread.start()
    yield tmp_path / "qmp", received
    thread.join()
    listener.close()


def test_qmp_commands_return_past_events(monitor: tuple[Path, list[dict[str, Any]]]) -> None:
    path, received = monitor
    qmp = Qmp(path)
    assert qmp.execute("device_del", id="card0") == {"n": 2}
    assert qmp.wait_event("DEVICE_DELETED", "card0")["data"] == {"device": "card0"}
    assert [request["execute"] for request in received] == ["qmp_capabilities", "device_del"]
    qmp.close()


def test_qmp_refusal_is_an_error_with_its_words(monitor: tuple[Path, list[dict[str, Any]]]) -> None:
    qmp = Qmp(monitor[0])
    with pytest.raises(QmpError, match="no such thing"):
        qmp.execute("bad")
    qmp.close()


def test_monitor_that_ends_within_an_answer_has_ended(monitor: tuple[Path, list[dict[str, Any]]]) -> None:
    qmp = Qmp(monitor[0])
    with pytest.raises(QmpError, match="QEMU has ended"):
        qmp.execute("die")
    qmp.close()
