"""Members of zip archives, which say how large they are before they are unpacked."""

import zipfile

# Deflate shrinks zeros to a thousandth (RFC 1951), photos and weights by less than a half. What is
# far beyond that was made to fill memory; up to 64 MB it may.
LARGEST_RATIO = 100
HARMLESS_BYTES = 1 << 26


def check_member(info):
    """Raises BadZipFile for a member that is far larger than its part of the archive.

    Args:
        info: `zipfile.ZipInfo`; what is read of a member never exceeds the size that it says.
    """
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"{info.filename} is packed in an unusual way")
    if info.file_size > max(HARMLESS_BYTES, LARGEST_RATIO * info.compress_size):
        raise zipfile.BadZipFile(
            f"{info.filename} would unpack from {info.compress_size} to {info.file_size} bytes"
        )


def read_member(archive, name):
    """Returns the bytes of a member of a `zipfile.ZipFile`.

    Raises:
        BadZipFile: when it is damaged, or would fill memory; see `check_member`.
        KeyError: when there is no such member.
    """
    info = archive.getinfo(name)
    check_member(info)
    return archive.read(info)
