"""What a compiled program does, from its text: programs and counts worked out by hand."""

import pytest

from lightxling.train.compiled import Collective, bytes_of, measure

LOOP = """\
HloModule jit_step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%body (carry: (s32[], f32[8,16], f32[16,4], f32[8,4])) -> (s32[], f32[8,16], f32[16,4], f32[8,4]) {
  %carry = (s32[], f32[8,16]{1,0}, f32[16,4]{1,0}, /*index=3*/f32[8,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%carry), index=0
  %x = f32[8,16]{1,0} get-tuple-element(%carry), index=1
  %w = f32[16,4]{1,0} get-tuple-element(%carry), index=2
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %y = f32[8,4]{1,0} dot(%x, %w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %all = f32[8,4]{1,0} all-reduce(%y), channel_id=7, replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %out = (s32[], f32[8,16]{1,0}, f32[16,4]{1,0}, f32[8,4]{1,0}) tuple(%next, %x, %w, %all)
}

%condition (carry: (s32[], f32[8,16], f32[16,4], f32[8,4])) -> pred[] {
  %carry = (s32[], f32[8,16]{1,0}, f32[16,4]{1,0}, f32[8,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%carry), index=0
  %stop = s32[] constant(5)
  ROOT %less = pred[] compare(%i, %stop), direction=LT
}

ENTRY %main (x: f32[8,16], w: f32[16,4]) -> f32[8,4] {
  %x = f32[8,16]{1,0} parameter(0)
  %w = f32[16,4]{1,0} parameter(1)
  %zero = s32[] constant(0)
  %start = f32[8,4]{1,0} constant({...})
  %first = (s32[], f32[8,16]{1,0}, f32[16,4]{1,0}, f32[8,4]{1,0}) tuple(%zero, %x, %w, %start)
  %loop = (s32[], f32[8,16]{1,0}, f32[16,4]{1,0}, f32[8,4]{1,0}) while(%first), \
      condition=%condition, body=%body
  ROOT %out = f32[8,4]{1,0} get-tuple-element(%loop), index=3
}
"""


def test_a_loop_counts_as_often_as_it_runs():
    work = measure(LOOP, devices=4)
    assert work.loops == 4 * 2 * 8 * 16 * 4  # XLA's own count has the first trip
    product = 4 * (8 * 16 + 16 * 4 + 8 * 4)
    counter, sums = 4 + 4 + 4, 4 * 2 * 8 * 4
    assert work.bytes == 5 * (product + counter + sums)  # the comparison itself is left out
    assert work.collectives == (Collective("all-reduce", 4, 5, 8 * 4 * 4),)


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("all-reduce", 2 * 3 / 4),  # each of 4 sends its quarters round twice
        ("all-gather", 3 / 4),
        ("reduce-scatter", 3 / 4),
        ("all-to-all", 3 / 4),
        ("collective-permute", 1),
    ],
)
def test_what_a_ring_sends(kind, sent):
    assert Collective(kind, 4, 3, 1000).sent == 3 * 1000 * sent


@pytest.mark.parametrize(
    ("shape", "bytes_"),
    [
        ("f32[4,8]{1,0}", 128),
        ("bf16[3]{0}", 6),
        ("pred[10]{0}", 10),
        ("s32[]", 4),
        ("(f32[2]{0}, u8[3]{0}, (s64[1]{0}))", 8 + 3 + 8),
        ("f32[4,8]{1,0:T(8,128)S(1)}", 0),  # on the chip
        ("token[]", 0),
    ],
)
def test_bytes_of_shapes(shape, bytes_):
    assert bytes_of(shape) == bytes_


def test_what_stays_on_the_chip_counts_where_it_is_asked_for():
    assert bytes_of("f32[4,8]{1,0:T(8,128)S(1)}", on_chip=True) == 128


def program(line: str, *parameters: str, more: str = "") -> str:
    lines = [f"  %p{i} = {shape} parameter({i})" for i, shape in enumerate(parameters)]
    return "\n".join([more, "ENTRY %main (p: f32[]) -> f32[] {", *lines, f"  ROOT {line}", "}"])


TABLE = "f32[1000,16]{1,0}"


def test_a_gather_reads_the_rows_that_it_returns():
    line = "%rows = f32[3,16]{1,0} gather(%p0, %p1), offset_dims={1}, slice_sizes={1,16}"
    row = 4 * 3 * 16
    assert measure(program(line, TABLE, "s32[3]{0}"), 1).bytes == row + row + 4 * 3


def test_a_scatter_in_place_reads_and_writes_the_rows_that_it_changes():
    line = f"%new = {TABLE} scatter(%p0, %p1, %p2), to_apply=%add"
    work = measure(program(line, TABLE, "s32[3]{0}", "f32[3,16]{1,0}"), 1)
    assert work.bytes == 2 * 4 * 3 * 16


FUSED = """%fused (a: f32[1000,16], i: s32[]) -> f32[1,16] {
  %a = f32[1000,16]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %z = s32[] constant(0)
  %slice = f32[1,16]{1,0} dynamic-slice(%a, %i, %z), dynamic_slice_sizes={1,16}
  ROOT %double = f32[1,16]{1,0} add(%slice, %slice)
}
"""


def test_a_fusion_reads_the_slices_that_it_takes_and_writes_its_result():
    line = "%f = f32[1,16]{1,0} fusion(%p0, %p1), kind=kLoop, calls=%fused"
    work = measure(program(line, TABLE, "s32[]", more=FUSED), 1)
    assert work.bytes == 4 * 16 + 4 + 4 * 16


def test_groups_of_collectives_in_all_their_notations():
    for groups, devices in (
        ("{{0,1},{2,3}}", 2),
        ("[2,4]<=[8]", 4),
        ("[4,2]<=[2,4]T(1,0)", 2),
        ("mesh['axis_0'=4,'axis_1'=2] {'axis_0'}", 4),
        ("mesh['axis_0'=2,'axis_1'=4], device_ids=([2,4]T(1,0)) {'axis_0'}", 2),
    ):
        line = f"%g = f32[8]{{0}} all-gather(%p0), channel_id=1, replica_groups={groups}"
        (one,) = measure(program(line, "f32[2]{0}"), 8).collectives
        assert (one.kind, one.devices, one.bytes) == ("all-gather", devices, 32)


def test_a_collective_in_two_halves_is_one():
    lines = "%s = (f32[2]{0}, f32[8]{0}) all-gather-start(%p0), replica_groups={{0,1,2,3}}"
    text = program("%d = f32[8]{0} all-gather-done(%s)", "f32[2]{0}").replace(
        "  ROOT", f"  {lines}\n  ROOT"
    )
    (one,) = measure(text, 4).collectives
    assert (one.kind, one.devices, one.times) == ("all-gather", 4, 1)
