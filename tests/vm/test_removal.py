"""Cards that go: unbound, unplugged, dead, while files are open and transfers run."""

from __future__ import annotations

import pytest

from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.machine import Machine

from .conftest import DELIBERATE_LEAK, KERNEL, Lab, make_lab

DRIVER = "pciedma_capric"
ECHO = "pciedma_lab.guest.transfers:echo"


def _rebind(lab: Lab) -> None:
    lab.call("processes:bind", driver=DRIVER, address=lab.addresses["capric"])
    lab.find()


def test_unbind_with_a_file_open_gives_enodev_and_hup(lab: Lab) -> None:
    lab.capric.control.set_fault("stall=h2c*1")
    blocked = lab.begin("processes:blocked_call", path=lab.data, timeout_s=None)
    lab.call("processes:unbind", driver=DRIVER, address=lab.addresses["capric"])
    assert blocked.value() == {"results": ["ENODEV", "ENODEV"], "hup": True}
    _rebind(lab)


@pytest.mark.parametrize("fault", ["", "jitter=0-300", "late_dma"])
def test_unbind_during_transfers_ends_them(lab: Lab, fault: str) -> None:
    for _ in range(5):
        if fault:
            lab.capric.control.set_fault(fault)
        lab.capric.control.counters(reset=True)
        writers = [lab.start("transfers:repeat_until_error", path=lab.data, direction=d) for d in ("write", "read")]
        lab.wait_for("c2h_starts", "h2c_starts")
        lab.call("processes:unbind", driver=DRIVER, address=lab.addresses["capric"])
        assert {writer.value()["errno"] for writer in writers} == {19}
        lab.capric.control.clear_faults()
        _rebind(lab)
        lab.echo(3)


def test_unbind_of_edu_waits_for_its_dma(lab: Lab) -> None:
    path, address = lab.nodes["edu"] + "c0", lab.addresses["edu"]
    options = {"path": path, "driver": "pciedma_edu", "address": address, "length": 4096}
    assert lab.call("processes:unbind_during_write", **options) == 4096
    lab.call("processes:bind", driver="pciedma_edu", address=address)
    lab.find()


def test_module_unload_is_refused_while_a_file_is_open(lab: Lab) -> None:
    lab.capric.control.set_fault("delay=400000*1")
    busy = lab.begin("transfers:one", path=lab.data, direction="write")
    assert lab.vm.run(["rmmod", "pciedma"]).returncode != 0
    assert busy.value()["moved"] == 100


def test_back_end_unload_with_a_file_open_gives_enodev(lab: Lab) -> None:
    lab.capric.control.set_fault("stall=h2c*1")
    blocked = lab.begin("processes:blocked_call", path=lab.data, timeout_s=None)
    assert lab.vm.run(["rmmod", DRIVER]).returncode == 0
    assert blocked.value() == {"results": ["ENODEV", "ENODEV"], "hup": True}
    assert lab.vm.run(["insmod", f"/mnt/project/build/{KERNEL}/modules/{DRIVER}.ko"]).returncode == 0
    lab.find()


def test_device_del_during_transfers_ends_them_and_a_new_card_works(lab: Lab) -> None:
    lab.capric.control.counters(reset=True)
    writers = [lab.start("transfers:repeat_until_error", path=lab.data, direction=d) for d in ("write", "read")]
    lab.wait_for("c2h_starts", "h2c_starts")
    lab.vm.device_del(lab.capric)
    assert {writer.value()["errno"] for writer in writers} == {19}
    lab.plug_in("capric")
    lab.echo()


def test_death_of_the_card_ends_every_call_and_keeps_the_memory() -> None:
    capric = EmulatedCard("capric")
    with Machine(KERNEL, iommu=True, cards=[capric], edu=1, time_limit_s=300) as vm:
        for pattern in DELIBERATE_LEAK:
            vm.expect_log(pattern)
        lab = make_lab(vm, capric)
        capric.control.set_fault("death*1")
        blocked = lab.start("processes:blocked_call", path=lab.data, timeout_s=1.0)
        result = blocked.value(120)
        assert set(result["results"]) <= {"EIO", "ENODEV"}
        assert not capric.alive
        quarantined = lab.sysfs("capric", "quarantined_bytes")
        assert quarantined in (0, 4096)
        vm.unload_modules()


def _node(vm: Machine, address: str) -> str:
    """Return the node of a card, or nothing if it has none."""
    result = vm.run(["sh", "-c", f"cd /sys/bus/pci/devices/{address}/pciedma && echo *"])
    return f"/dev/{result.stdout.split()[0]}" if not result.returncode else ""


def test_foreign_cards_are_declined_unwritten_until_their_owner_says_that_they_are_not() -> None:
    """With one line each; then they are bound by sysfs, in either way, or by a parameter."""
    foreign = [EmulatedCard("capric", variant=variant) for variant in ("foreign-subsystem", "foreign-bar")]
    own = [EmulatedCard("capric", variant="own-id") for _ in range(2)]
    with Machine(KERNEL, cards=[*foreign, *own], time_limit_s=300) as vm:
        addresses = [f"0000:0{bus}:00.0" for bus in range(1, 5)]
        vm.load_modules()
        lines = [line for line in vm.kernel_log().splitlines() if "not a capric card" in line]
        assert len(lines) == 2
        assert "subsystem id 10ee:1234" in lines[0]
        assert "BAR0 has 65536 bytes" in lines[1]
        for card in foreign:
            counters = card.control.counters()
            assert counters.get("mmio_reads", 0) == counters.get("mmio_writes", 0) == 0
        assert vm.run(["sh", "-c", "ls /dev/pciedma*"]).returncode != 0
        for number, command in (
            (2, f"cd /sys/bus/pci/devices/{addresses[2]}; echo pciedma_capric > driver_override;"
                f"echo {addresses[2]} > /sys/bus/pci/drivers_probe"),
            (3, "echo 1234 5678 > /sys/bus/pci/drivers/pciedma_capric/new_id"),
        ):
            assert not _node(vm, addresses[number])
            assert vm.run(["sh", "-c", command]).returncode == 0
            assert vm.call(ECHO, path=_node(vm, addresses[number]) + "c0", count=20)["errors"] == 0
        vm.unload_modules()
        vm.load_modules(capric="ids=10ee:0007:10ee:1234")
        assert vm.call(ECHO, path=_node(vm, addresses[0]) + "c0", count=20)["errors"] == 0
        assert not _node(vm, addresses[1])
        vm.unload_modules()
