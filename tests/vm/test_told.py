"""What is wrong is told: by one clear line in the log, by sysfs, by the tool."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pciedma_lab import modules
from pciedma_lab.card_process import EmulatedCard
from pciedma_lab.chroot import PROJECT
from pciedma_lab.machine import Machine

from .conftest import KERNEL, Lab, guest_target

HEADER = PROJECT / "src/include/pciedma_card.h"
LOST = "configuration space was lost: memory space or bus mastering is off, or a BAR has changed"
#: A card that was given a DMA after bus mastering was switched off may have transactions pending for ever.
REACH = "; (it cannot reach memory any more|memory that it may reach is quarantined)"
LARGEST = (1 << 63) - 1

BAD_SIZES = ["1.5G", '"64 M"', "lots", "-1", "+1", "16E", "1E", "8388608T", "8192P", "", "0x", "x", "M", "64MB", "64KM",
             "1_000", "0x1z", "1e9", str(LARGEST + 1), "18446744073709551616", "0" * 40]
GOOD_SIZES = {"0": LARGEST, "4096": 4096, "64k": 64 << 10, "3M": 3 << 20, "4G": 4 << 30, "2t": 2 << 40, "1P": 1 << 50,
              "0x1E": 30, "0X10m": 16 << 20, "8191P": 8191 << 50, str(LARGEST): LARGEST, "010": 10}
BAD_IDS = ["10ee:7011:zz", "10ee:7011:", "10ee:7011:1234", "10ee:7011:1234:", "10ee:7011:1234:5678:", "10ee:70111",
           "10ee", "0x10ee:7011", "10ee:-1", "10ee:7011,", ",10ee:7011", ",", "", '"10ee:7011, 10ee:7012"', '" "',
           "10ee:7011:1234:5678:9abc", "10ee::7011"]
GOOD_IDS = ["1:2", "1234:ABCD,1234:abce:1234:0001"]


def lines(lab: Lab, pattern: str) -> list[str]:
    return [line for line in lab.vm.kernel_log().splitlines() if re.search(pattern, line)]


def violations(lab: Lab, card: str) -> set[str]:
    """Return what a card's model, if it has one, has seen of what it forbids, and forget it."""
    return {found["name"] for found in lab.cards[card].control.violations(clear=True)} if card in lab.cards else set()


def said(lab: Lab, pattern: str, before: list[str]) -> int:
    """Return how many lines like this are new in the log."""
    return len(lines(lab, pattern)) - len(before)


class Module:
    """A back end's module of the shared machine, to be loaded with parameters."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab, self.name = lab, name
        self.file = f"/mnt/project/build/{lab.vm.series}/modules/{name}.ko"

    def tried(self, parameters: Iterable[str]) -> list[dict[str, Any]]:
        """Load it with one parameter after the other."""
        found: list[dict[str, Any]] = self.lab.call("told:loads", file=self.file, parameters=list(parameters))
        return found


@pytest.fixture
def unloaded(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Module]:
    """A module that is not loaded; afterwards it is."""
    module = Module(lab, request.param)
    assert not lab.vm.run(["rmmod", module.name]).returncode
    yield module
    lab.vm.run(["rmmod", module.name])
    assert not lab.vm.run(["insmod", module.file]).returncode
    lab.find()


@pytest.mark.parametrize("unloaded", ["pciedma_xdma"], indirect=True)
def test_size_that_cannot_be_read_exactly_is_refused_with_a_line(unloaded: Module) -> None:
    for text, found in zip(BAD_SIZES, unloaded.tried(f"memory_size={text}" for text in BAD_SIZES), strict=True):
        bare = text.strip('"')
        ours, kernels = found["said"]
        assert ours.startswith(f'pciedma: memory_size=: "{bare}" is not a number of bytes up to 2^63-1')
        assert kernels == f"pciedma_xdma: `{bare}' invalid for parameter `memory_size'"
        assert not found["loaded"]


@pytest.mark.parametrize("unloaded", ["pciedma_xdma"], indirect=True)
def test_size_is_taken_exactly(unloaded: Module) -> None:
    channel = unloaded.lab.memory.removeprefix("/dev/")
    found = unloaded.tried(f"memory_size={text}" for text in GOOD_SIZES)
    assert [one["sizes"].get(channel) for one in found] == [str(size) for size in GOOD_SIZES.values()]


@pytest.mark.parametrize("unloaded", ["pciedma_xdma"], indirect=True)
def test_memory_ends_where_the_size_says(unloaded: Module) -> None:
    lab = unloaded.lab
    assert lab.vm.run(["insmod", unloaded.file, "memory_size=1M"]).returncode == 0
    found = lab.call("bad_input:positions", path=lab.memory, size=1 << 20)
    assert found["read_at_end"] == 0
    assert found["write_at_end"] == "ENOSPC"
    assert found["read_across"] == found["write_across"] == 10
    assert found["seek_end"] == 1 << 20


@pytest.mark.parametrize("unloaded", ["pciedma_edu"], indirect=True)
def test_ids_that_cannot_be_read_exactly_are_refused_before_a_card_is_bound(unloaded: Module) -> None:
    for text, found in zip(BAD_IDS, unloaded.tried(f"ids={text}" for text in BAD_IDS), strict=True):
        told, = found["said"]
        assert re.fullmatch('pciedma: ids=: "(.*)" is not vendor:device\\[:subvendor:subdevice]', told), text
        assert not found["loaded"]
    assert all(found["loaded"] for found in unloaded.tried(f"ids={text}" for text in GOOD_IDS))


def test_settings_out_of_range_are_refused(lab: Lab) -> None:
    cases = [
        ("spin_us", "0", "ok"), ("spin_us", "4294967", "ok"), ("spin_us", "4294968", "ERANGE"),
        ("spin_us", "-1", "EINVAL"),
        ("drain_ms", "1", "ok"), ("drain_ms", "3600000", "ok"), ("drain_ms", "0", "ERANGE"),
        ("drain_ms", "3600001", "ERANGE"), ("drain_ms", "4294967296", "ERANGE"), ("drain_ms", "1s", "EINVAL"),
        ("copy_threshold", "0", "ok"), ("copy_threshold", "4294967295", "ok"),
        ("copy_threshold", "4294967296", "ERANGE"), ("copy_threshold", "4K", "EINVAL"),
    ]
    found = lab.call("told:settings", card=lab.nodes["xdma"], values=[[name, value] for name, value, _ in cases])
    assert [result for result, _ in found] == [result for *_, result in cases]
    defaults = {name: lab.sysfs("xdma", f"c0/h2c/{name}") for name in ("spin_us", "drain_ms", "copy_threshold")}
    assert [int(read) for _, read in found] == [
        int(value) if result == "ok" else defaults[name] for name, value, result in cases
    ]


@pytest.mark.late_interrupts
@pytest.mark.parametrize(("card", "what"), [
    *((card, what) for card in ("capric", "xdma", "edu") for what in ("command", "bars", "both")),
    ("capric", "master"), ("xdma", "master"),  # without bus mastering edu says that a DMA went well
])
def test_lost_configuration_is_told_and_a_reset_brings_it_back(lab: Lab, card: str, what: str) -> None:
    node = lab.nodes[card]
    steps = [f"pciedma reset {node.removeprefix('/dev/pciedma')}", "pciedma doctor"]
    before = lines(lab, LOST)
    found = lab.call("told:lost_config", card=node, address=lab.addresses[card], what=what)
    lost = {"sysfs": "lost", "list": "configuration lost", "doctor": [steps]}
    assert found["before"] == [5, "ok"]
    assert found["unnoticed"] == {**lost, "health": "ok"}
    assert found["first"] in ("EIO", "ETIMEDOUT")
    assert found["then"] == ["EIO"] * 3
    assert found["waited"] == 0
    assert found["noticed"] == {**lost, "health": "broken"}
    assert found["reset"] == ["pciedma", 0]
    assert found["after"] == [5, {"sysfs": "ok", "list": "ok", "health": "ok", "doctor": []}]
    told = lines(lab, LOST)[len(before) :]
    assert [re.sub(REACH, "", line.partition(LOST)[2]) for line in told] == [
        "; only a reset can bring it back", "; restored",
    ]
    assert violations(lab, card) <= ({"start_without_bus_master"} if what == "master" else set())


@pytest.mark.parametrize("card", ["capric", "xdma", "edu"])
def test_reset_restores_a_configuration_whose_loss_nobody_noticed(lab: Lab, card: str) -> None:
    before = lines(lab, LOST + "; restored")
    found = lab.call("told:reset_of_lost", card=lab.nodes[card], address=lab.addresses[card], what="both")
    assert found == [None, "ok", 5]
    assert said(lab, LOST + "; restored", before) == 1


@pytest.mark.parametrize("card", ["capric", "xdma", "edu"])
def test_card_whose_configuration_was_lost_works_after_it_was_bound_anew(lab: Lab, card: str) -> None:
    address = lab.addresses[card]
    lab.call("told:lose_config", address=address, what="both")
    lab.call("processes:unbind", driver=f"pciedma_{card}", address=address)
    lab.call("processes:bind", driver=f"pciedma_{card}", address=address)
    lab.find()
    assert lab.call("told:calls", path=lab.nodes[card] + "c0", direction="h2c", count=1) == [100]


@pytest.mark.late_interrupts
@pytest.mark.parametrize("direction", ["c2h", "h2c"])
@pytest.mark.parametrize("card", ["xdma", "capric"])
def test_engine_that_is_dead_is_told_once_and_again_when_it_works(lab: Lab, card: str, direction: str) -> None:
    node = lab.nodes[card]
    other = {"c2h": "h2c", "h2c": "c2h"}[direction]
    told = f"{node[5:]}c0: {direction} had to be stopped 3 times in a row"
    well = f"{node[5:]}c0: {direction} works again"
    before, before_well = lines(lab, told), lines(lab, well)
    options = {"path": f"{node}c0", "direction": direction}
    with lab.drain_bound(card, 20):
        lab.cards[card].control.set_fault(f"stall={direction}")
        assert lab.call("told:calls", **options, count=2) == ["ETIMEDOUT"] * 2
        assert lab.call("told:health", card=node) == {
            "sysfs": {"c2h": "ok", "h2c": "ok"}, "list": {"c2h": "ok", "h2c": "ok"}, "doctor": [],
        }
        assert lab.call("told:calls", **options, count=3) == ["ETIMEDOUT"] * 3
        found = lab.call("told:health", card=node)
        assert found["sysfs"] == found["list"] == {direction: "failing", other: "ok"}
        steps = [f"pciedma reset {node.removeprefix('/dev/pciedma')}", "pciedma doctor"]
        assert found["doctor"] == [[f"{node}c0 ({lab.addresses[card]}): {direction} failing", steps]]
        assert said(lab, told, before) == 1
        assert said(lab, well, before_well) == 0
        lab.cards[card].control.clear_faults()
        assert lab.call("told:calls", **options, count=2) == [100] * 2
    assert set(lab.call("told:health", card=node)["sysfs"].values()) == {"ok"}
    assert said(lab, well, before_well) == 1
    assert said(lab, told, before) == 1


@pytest.mark.late_interrupts
@pytest.mark.parametrize("way", ["RESET", "sysfs"])
def test_reset_gives_a_dead_engine_a_fresh_start(lab: Lab, way: str) -> None:
    node = lab.nodes["xdma"]
    well = f"{node[5:]}c0: c2h works again"
    before = lines(lab, well)
    options = {"path": f"{node}c0", "direction": "c2h"}
    with lab.drain_bound("xdma", 20):
        lab.xdma.control.set_fault("stall=c2h")
        assert lab.call("told:calls", **options, count=3) == ["ETIMEDOUT"] * 3
        assert lab.call("told:health", card=node)["sysfs"]["c2h"] == "failing"
        if way == "RESET":
            lab.call("resets:reset", card=node)
        else:
            lab.vm.run(["sh", "-c", f"echo 1 > /sys/bus/pci/devices/{lab.addresses['xdma']}/reset"])
        assert lab.call("told:health", card=node)["sysfs"]["c2h"] == "ok"
        assert said(lab, well, before) == 0
        assert lab.call("told:calls", **options, count=3) == ["ETIMEDOUT"] * 3
        assert lab.call("told:health", card=node)["sysfs"]["c2h"] == "failing"
        lab.xdma.control.clear_faults()
        assert lab.call("told:calls", **options, count=1) == [100]
    assert said(lab, well, before) == 1


def test_card_whose_registers_read_all_ones_is_declined_with_a_line(lab: Lab) -> None:
    told = "not a working capric card: its registers read all ones"
    before = lines(lab, told)
    address = lab.addresses["capric"]
    lab.call("processes:unbind", driver="pciedma_capric", address=address)
    lab.capric.control.set_fault("all_ones")
    assert lab.vm.run(["sh", "-c", f"echo {address} > /sys/bus/pci/drivers/pciedma_capric/bind"]).returncode
    assert said(lab, told, before) == 1
    lab.capric.control.clear_faults()
    lab.call("processes:bind", driver="pciedma_capric", address=address)
    lab.find()


CONTRACT = int(re.findall(r"^#define PCIEDMA_CONTRACT\s+(\d+)$", HEADER.read_text(), re.M)[0])
#: A statement that spoils the description of the example's card, and what the log says then.
OF_THE_TYPE = {
    "loop_driver.type = NULL": "type is missing",
    "loop_type.name = NULL": 'name is "", not 1 to 15 characters',
    'loop_type.name = ""': 'name is "", not 1 to 15 characters',
    'loop_type.name = "sixteen letters."': 'name is "sixteen letters.", not 1 to 15 characters',
    "loop_type.card_priv = 0": "card_priv is 0",
    "loop_type.vectors = 0": "vectors is 0, not 1 to 17",
    "loop_type.vectors = 18": "vectors is 18, not 1 to 17",
    "loop_type.event_lines = 33": "event_lines is 33, more than 32",
    "loop_type.ops.identify = NULL": "identify is missing",
    "loop_type.ops.init = NULL": "init is missing",
    "loop_type.ops.start = NULL": "start is missing",
    "loop_type.ops.reap = NULL": "reap is missing",
    "loop_type.ops.idle = NULL": "idle is missing",
    "loop_type.ops.irq = NULL": "irq is missing",
    "loop_type.event_lines = 1": "events is missing, but event_lines is 1",
    "loop_type.event_lines = 1; loop_type.ops.events = (void *)loop_init":
        "arm_events is missing, but event_lines is 1",
    "loop_type.ops.events = (void *)loop_init": "events is there, but event_lines is 0",
    "loop_type.ops.arm_events = (void *)loop_init": "arm_events is there, but event_lines is 0",
}
OF_A_CHANNEL = {
    "channels = 9": "channel 8: a card has at most 8 channels",
    "loop_channel.kind = 0": "channel 0: kind is 0, none of enum pciedma_kind",
    "loop_channel.kind = 4": "channel 0: kind is 4, none of enum pciedma_kind",
    "loop_channel.c2h = loop_channel.h2c = NULL": "channel 0: c2h and h2c are both missing",
    "loop_channel.h2c = &loop_other": "channel 0: shared, but c2h and h2c are not the same description",
    "loop_channel.size = 0": "channel 0: size is 0, not 1 to PCIEDMA_SIZE_UNKNOWN",
    "loop_channel.size = 1ULL << 63": f"channel 0: size is {1 << 63}, not 1 to PCIEDMA_SIZE_UNKNOWN",
    "loop_engine.address_bits = 0": "channel 0: c2h: address_bits is 0, not 1 to 64",
    "loop_engine.address_bits = 65": "channel 0: c2h: address_bits is 65, not 1 to 64",
    "loop_engine.segments = 0": "channel 0: c2h: segments is 0",
    "loop_engine.max_segment = 0": "channel 0: c2h: max_segment is 0",
    "loop_engine.drain_ms = 0": "channel 0: c2h: drain_ms is 0",
    "loop_engine.buffer_size = 0": "channel 0: c2h: buffer_size is 0",
    "loop_engine.buffers = 0": "channel 0: c2h: buffers is 0, not 1 to 8",
    "loop_engine.buffers = 9": "channel 0: c2h: buffers is 9, not 1 to 8",
    "loop_channel.kind = 2": "channel 0: c2h: max_dma is 0, not 1 to buffer_size, which is 4096",
    "loop_channel.kind = 2; loop_engine.max_dma = 4097":
        "channel 0: c2h: max_dma is 4097, not 1 to buffer_size, which is 4096",
    "loop_engine.halt_scope = 3": "channel 0: c2h: halt_scope is 3, none of enum pciedma_halt_scope",
    "loop_engine.halt_scope = 0": "channel 0: c2h: halt_scope is 0, but halt is there",
    "loop_type.ops.halt = NULL": "channel 0: c2h: halt_scope is 1, but halt is missing",
    "loop_engine.address_alignment = 3": "channel 0: c2h: address_alignment is 3, no power of two up to 4096",
    "loop_engine.address_alignment = 8192": "channel 0: c2h: address_alignment is 8192, no power of two up to 4096",
    "loop_engine.length_granularity = 12": "channel 0: c2h: length_granularity is 12, no power of two up to 4096",
    "loop_engine.host_alignment = 48": "channel 0: c2h: host_alignment is 48, no power of two up to 4096",
    "loop_engine.segment_boundary = 256": "channel 0: c2h: segment_boundary is 256, no power of two from 512 on",
    "loop_engine.segment_boundary = 3000": "channel 0: c2h: segment_boundary is 3000, no power of two from 512 on",
    "loop_engine.max_segment = 4000; loop_engine.host_alignment = 64":
        "channel 0: c2h: max_segment is 4000, no multiple of the alignment 64",
    "loop_engine.buffer_size = 4064; loop_engine.address_alignment = 64":
        "channel 0: c2h: buffer_size is 4064, no multiple of the alignment 64",
    "loop_engine.segment_boundary = 512; loop_engine.length_granularity = 4096":
        "channel 0: c2h: segment_boundary is 512, no multiple of the alignment 4096",
    "loop_channel.kind = 2; loop_engine.max_dma = 4096; loop_engine.segment_boundary = 2048":
        "channel 0: c2h: segment_boundary is 2048, less than max_dma, which is 4096",
    "loop_channel.shared = false; loop_channel.h2c = &loop_other; loop_other.segments = 0":
        "channel 0: h2c: segments is 0",
}
STATEMENTS = [*OF_THE_TYPE, *OF_A_CHANNEL]

SPOIL = """
static struct pciedma_engine_desc loop_other;
static int channels = 1;
static int spoil = -1;
module_param(spoil, int, 0444);
static unsigned int contract = PCIEDMA_CONTRACT;
module_param(contract, uint, 0444);

static int __init spoilt_init(void)
{{
	loop_other = loop_engine;
	loop_driver.contract = contract;
	switch (spoil) {{
{cases}
	}}
	return __pciedma_driver_register(&loop_driver, THIS_MODULE, NULL);
}}
module_init(spoilt_init);

static void __exit spoilt_exit(void)
{{
	pciedma_driver_unregister(&loop_driver);
}}
module_exit(spoilt_exit);
"""


def spoilt(source: str) -> str:
    """Return the source of a back end that its parameter ``spoil`` spoils."""
    for name in ("engine_desc loop_engine", "channel_desc loop_channel", "card_type loop_type"):
        source, count = re.subn(f"static const struct pciedma_{name}", f"static struct pciedma_{name}", source)
        assert count == 1
    cases = "\n".join(f"\tcase {number}:\n\t\t{statement};\n\t\tbreak;" for number, statement in enumerate(STATEMENTS))
    add = "ret = pciedma_channel_add(card, &loop_channel);"
    many = f"ret = 0;\n\twhile (!ret && channels--)\n\t\t{add}"
    last = "module_pciedma_driver(loop_driver);\n"
    assert source.count(add) == source.count(last) == 1
    parts = SPOIL.format(cases=cases).split("\n\n", 1)
    head = "static int loop_identify("
    return source.replace(last, parts[1]).replace(add, many).replace(head, f"{parts[0].strip()}\n\n{head}")


#: How back ends for an older and a newer core are loaded: what else they have may not be looked at.
OF_OTHER_CONTRACTS = {f"contract={number} spoil={spoil}": number for number in (0, CONTRACT + 1) for spoil in (-1, 0)}


def test_description_that_cannot_be_and_another_contract_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "mycard"
    shutil.copytree(PROJECT / "examples/card", folder)
    (folder / "loop.c").write_text(spoilt((folder / "loop.c").read_text()))
    loop = EmulatedCard(str(folder / "loop.py"))
    modules.build(KERNEL, [folder / "loop.py"])
    with Machine(KERNEL, cards=[loop], time_limit_s=300) as vm:
        built = f"/mnt/project/build/{KERNEL}/{modules.built(KERNEL, [folder / 'loop.py']).name}"
        assert not vm.run(["insmod", f"{built}/pciedma.ko"]).returncode
        parameters = [f"spoil={number}" for number in range(-1, len(STATEMENTS))]
        loads = {"file": f"{built}/pciedma_loop.ko", "parameters": [*OF_OTHER_CONTRACTS, *parameters]}
        all_found = vm.call(guest_target("told:loads"), 200, **loads)
        others, (whole, *found) = all_found[: len(OF_OTHER_CONTRACTS)], all_found[len(OF_OTHER_CONTRACTS) :]
        text = f"pciedma: pciedma_loop was built for contract {{}}, the driver has {CONTRACT}: build it anew"
        assert [one["said"] for one in others] == [[text.format(number)] for number in OF_OTHER_CONTRACTS.values()]
        assert {one["error"] for one in others} == {"ENOEXEC"}
        assert not any(one["sizes"] for one in others)
        assert whole["loaded"]
        assert whole["sizes"]
        bad = "bad description of "
        said = [[line.partition(bad)[2] for line in one["said"] if bad in line] for one in found]
        texts = [f"pciedma_loop: {text}" for text in OF_THE_TYPE.values()]
        assert said == [[text] for text in [*texts, *(f"loop, {text}" for text in OF_A_CHANNEL.values())]]
        assert [one["loaded"] for one in found] == [False] * len(OF_THE_TYPE) + [True] * len(OF_A_CHANNEL)
        assert not any(one["sizes"] for one in found)
        vm.run(["rmmod", "pciedma"])
