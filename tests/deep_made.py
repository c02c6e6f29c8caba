"""Image files with 16 bits and more, as other programs write them."""

import struct
import zlib


def write_tiff(path, pixels, *, photometric=1, sample=1):
    """Write uncompressed grey pixels with any sample format and photometric interpretation."""
    tags = [(256, 4, pixels.shape[1]), (257, 4, pixels.shape[0]), (258, 3, 8 * pixels.itemsize)]
    tags += [(259, 3, 1), (262, 3, photometric), (273, 4, 8), (277, 3, 1)]
    tags += [(278, 4, pixels.shape[0]), (279, 4, pixels.nbytes), (339, 3, sample)]
    directory = struct.pack("<H", len(tags))
    directory += b"".join(struct.pack("<HHII", tag, form, 1, value) for tag, form, value in tags)
    start = struct.pack("<I", 8 + pixels.nbytes)
    path.write_bytes(b"II*\0" + start + pixels.tobytes() + directory + bytes(4))


def write_deep_colour(path, pixels):
    """Write (H, W, 3) uint16 as a PNG with 16 bits a colour."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )
