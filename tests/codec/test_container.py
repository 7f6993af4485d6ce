"""The bytes of a file: what was written, or an error."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mne_labram.codec import container
from mne_labram.codec.container import ContainerReader, ContainerWriter
from mne_labram.signal.contract import ContractError

HEADER = {"b": [1, 2.5, None], "a": "Fp1 µ"}
BODIES = [b"first", b"", b"\x00" * 300, b"BCZb in the middle \x89BCZ\r\n\x1a\n"]


@pytest.fixture(autouse=True, scope="module")
def _copies() -> Iterator[None]:
    """Give the smallest file a second header."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(container, "_COPY_SHARE", 0)
        yield


def write(path: Path, header=HEADER, bodies=BODIES) -> Path:
    with ContainerWriter(path, header) as writer:
        for body in bodies:
            writer.add(body)
    assert writer.n_bytes == path.stat().st_size
    return path


def test_round_trip(tmp_path):
    reader = ContainerReader(write(tmp_path / "a.bcz"))
    assert reader.header == HEADER
    assert reader.notes == []
    assert reader.damage(len(BODIES)) == {}
    assert [reader.read(number) for number in range(len(BODIES))] == BODIES


def test_the_same_header_is_the_same_bytes(tmp_path):
    one = write(tmp_path / "a.bcz").read_bytes()
    other = write(tmp_path / "b.bcz", dict(reversed(HEADER.items()))).read_bytes()
    assert one == other


def test_a_file_without_blocks(tmp_path):
    reader = ContainerReader(write(tmp_path / "a.bcz", bodies=[]))
    assert reader.damage(0) == {}
    assert reader.damage(2) == {0: "missing", 1: "missing"}


def test_nan_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        ContainerWriter(tmp_path / "a.bcz", {"a": float("nan")})


def test_every_flipped_bit_is_noticed(tmp_path):
    """Bit by bit through the whole file: what is read is what was written, or is known to be damaged."""
    path = write(tmp_path / "a.bcz")
    whole = path.read_bytes()
    noticed = 0
    for at in range(len(whole)):
        content = bytearray(whole)
        content[at] ^= 1 << (at % 8)
        path.write_bytes(content)
        reader = ContainerReader(path)
        assert reader.header == HEADER
        damage = reader.damage(len(BODIES))
        for number, body in enumerate(BODIES):
            if number not in damage:
                assert reader.read(number) == body
            else:
                with pytest.raises(ContractError, match=f"Block {number} of a.bcz is damaged"):
                    reader.read(number)
        assert len(damage) <= 1
        noticed += bool(damage or reader.notes)
    # The copy of the header is not looked at while the header itself is whole.
    assert len(whole) - noticed <= len(container._packed_header(HEADER)[0])


@given(data=st.data())
def test_nothing_wrong_is_read(tmp_path_factory, data):
    """Any damage: every block that is given is the one that was written."""
    path = write(tmp_path_factory.mktemp("a") / "a.bcz")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(0, len(content) - 1)))
        length = data.draw(st.integers(0, 80))
        kind = data.draw(st.sampled_from(["cut", "remove", "insert", "overwrite", "double"]))
        if kind == "cut":
            del content[at:]
        elif kind == "remove":
            del content[at : at + length]
        elif kind == "insert":
            content[at:at] = data.draw(st.binary(max_size=80))
        elif kind == "overwrite":
            content[at : at + length] = data.draw(st.binary(min_size=length, max_size=length))
        else:
            content[at:at] = content[at : at + length]
    path.write_bytes(content)
    try:
        reader = ContainerReader(path)
    except ContractError:
        return
    assert reader.header == HEADER
    damage = reader.damage(len(BODIES))
    assert [reader.read(number) for number in range(4) if number not in damage] == [
        body for number, body in enumerate(BODIES) if number not in damage
    ]


def test_blocks_of_another_file_are_not_taken(tmp_path):
    """Same number, same length, another recording."""
    one = write(tmp_path / "a.bcz", bodies=[b"x" * 50] * 2).read_bytes()
    other = write(tmp_path / "b.bcz", {**HEADER, "a": "Fp2 µ"}, bodies=[b"y" * 50] * 2).read_bytes()
    assert len(one) == len(other)
    at = one.index(b"BCZb")
    mixed = one[:at] + other[at : at + 74] + one[at + 74 :]
    (tmp_path / "c.bcz").write_bytes(mixed)
    reader = ContainerReader(tmp_path / "c.bcz")
    assert reader.damage(2) == {0: "the checksum does not fit"}
    assert reader.read(1) == b"x" * 50


def test_blocks_do_not_change_places(tmp_path):
    content = write(tmp_path / "a.bcz", bodies=[b"x" * 50, b"y" * 50]).read_bytes()
    at = content.index(b"BCZb")
    (tmp_path / "a.bcz").write_bytes(
        content[:at] + content[at + 74 : at + 148] + content[at : at + 74] + content[at + 148 :]
    )
    assert len(ContainerReader(tmp_path / "a.bcz").damage(2)) == 2


def test_another_version_names_both(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "FORMAT_VERSION", 7)
    write(tmp_path / "a.bcz")
    monkeypatch.undo()
    with pytest.raises(ContractError, match="a.bcz has version 7 of the format and this mne_labram reads version 1;"):
        ContainerReader(tmp_path / "a.bcz")


def test_a_flipped_version_is_damage(tmp_path):
    """The number of the version is under the checksum: with it wrong, the copy of the header is used."""
    path = write(tmp_path / "a.bcz")
    content = bytearray(path.read_bytes())
    assert struct.unpack_from("<H", content, 8) == (1,)
    content[8] = 2
    path.write_bytes(content)
    reader = ContainerReader(path)
    assert reader.notes == ["the header at its beginning is damaged and the copy at its end was used"]
    assert reader.damage(4) == {}


def test_the_second_header_is_a_small_part(tmp_path, monkeypatch):
    """A short recording has none: its header damaged, the file is refused."""
    monkeypatch.setattr(container, "_COPY_SHARE", 50)
    for length, n_headers in ((1000, 1), (100_000, 2)):
        path = write(tmp_path / f"{length}.bcz", bodies=[bytes(length)])
        content = bytearray(path.read_bytes())
        assert content.count(b"\x89BCZ\r\n") == n_headers
        assert ContainerReader(path).notes == []
        content[30] ^= 1
        path.write_bytes(content)
        if n_headers == 2:
            assert len(ContainerReader(path).notes) == 1
        else:
            with pytest.raises(ContractError, match="its header is not whole"):
                ContainerReader(path)


def test_both_headers_gone(tmp_path):
    path = write(tmp_path / "a.bcz")
    content = path.read_bytes().replace(b"\x89BCZ\r\n\x1a\n", b"\x89BCZ\n\x1a\n\n")
    path.write_bytes(content)
    with pytest.raises(ContractError, match="its header is not whole, nor is there a whole copy of it at its end"):
        ContainerReader(path)


@pytest.mark.parametrize(
    ("content", "match"),
    [(b"", "is empty"), (b"0       X X X X", "is not a file of braincodec_compress"), (b"\x89BCZ", "is damaged")],
)
def test_other_files(tmp_path, content, match):
    (tmp_path / "a.bcz").write_bytes(content)
    with pytest.raises(ContractError, match=match):
        ContainerReader(tmp_path / "a.bcz")


def test_a_file_cut_short_keeps_what_is_there(tmp_path):
    path = write(tmp_path / "a.bcz")
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"BCZb in")])
    reader = ContainerReader(path)
    assert reader.damage(4) == {3: "missing"}
    assert reader.read(2) == BODIES[2]
    assert len(reader.notes) == 1


def test_a_header_made_to_harm(tmp_path, monkeypatch):
    """A few bytes that unpack to more than any header has."""
    path = write(tmp_path / "a.bcz", {"a": "x" * 100_000})
    monkeypatch.setattr(container, "_MAX_HEADER", 10_000)
    with pytest.raises(ContractError, match="is no JSON"):
        ContainerReader(path)


def test_an_error_while_writing_leaves_no_index(tmp_path):
    def interrupt(writer: ContainerWriter) -> None:
        writer.add(b"x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), ContainerWriter(tmp_path / "a.bcz", HEADER) as writer:
        interrupt(writer)
    assert ContainerReader(tmp_path / "a.bcz").notes != []
