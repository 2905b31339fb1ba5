"""MCAP files, sound and unsound."""

import io
import struct
import zlib

import zstandard
from mcap.writer import CompressionType, Writer

MAGIC = b"\x89MCAP0\r\n"


def recording(messages: int = 20, salt: str = "", payload: bytes = b"{}", *, chunked: bool = True) -> bytes:
    file = io.BytesIO()
    writer = Writer(file, compression=CompressionType.ZSTD, use_chunking=chunked)
    writer.start(profile="", library=f"test {salt}")
    schema = writer.register_schema("any", "jsonschema", b"{}")
    channel = writer.register_channel("scan", "json", schema)
    for number in range(messages):
        writer.add_message(channel, log_time=number, data=payload, publish_time=number)
    writer.finish()
    return file.getvalue()


def record(opcode: int, content: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(content)) + content


def text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode()


def chunk(data: bytes, declared: int, compression: str = "zstd", crc: int = 0) -> bytes:
    head = struct.pack("<QQQI", 0, 0, declared, crc) + text(compression)
    return record(0x06, head + struct.pack("<Q", len(data)) + data)


def unsound(*records: bytes) -> bytes:
    """Return a file with a header, these records and a footer."""
    footer = record(0x02, struct.pack("<QQI", 0, 0, 0))
    return MAGIC + record(0x01, text("") + text("test")) + b"".join(records) + record(0x0F, b"\0" * 4) + footer + MAGIC


def bomb(declared: int, size: int) -> bytes:
    """Return a zstd chunk of `size` zeros that says it holds `declared` bytes."""
    packer = zstandard.ZstdCompressor(level=19, write_content_size=False).compressobj()
    packed = b"".join(packer.compress(b"\0" * (1 << 20)) for _ in range(size >> 20)) + packer.flush()
    return chunk(packed, declared)


def lying_frame(declared: int) -> bytes:
    """Return a chunk whose zstd frame header promises 1 TiB, and whose checksum is right for nothing."""
    frame = b"\x28\xb5\x2f\xfd\xc0\x38" + struct.pack("<Q", 1 << 40) + b"\x01\x00\x00"
    return chunk(frame, declared, crc=zlib.crc32(b""))
