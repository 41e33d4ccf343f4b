"""What does upscaling a file cost beside the bare network, and beside OpenCV's bicubic?

    python -m benchmarks.predict_folder [--restore_path=WEIGHTS] [--tiles=288,512]

A photo of 1000x750 pixels at x4, with weights that come with the project or others: the file is
read, worked on in tiles and written; the network alone works on all of it at once, OpenCV's bicubic
interpolation too. Each in a process of its own; processor time, because other work may run beside.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SIZE = 750, 1000
SCALE = 4


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--restore_path", default="eusr_small")
    parser.add_argument("--tiles", default="", help="tile sizes to compare with the default")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.restore_path)))
        return
    print(f"{'':24}{'seconds':>10}{'/ network':>11}{'peak MB':>9}")
    bare = None
    for name in ("network", "file", *filter(None, arguments.tiles.split(",")), "bicubic"):
        command = [sys.executable, "-m", "benchmarks.predict_folder", f"--measure={name}"]
        command.append(f"--restore_path={arguments.restore_path}")
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        row = json.loads(output.splitlines()[-1])
        bare = bare or row["seconds"]
        title = f"in tiles of {name}" if name.isdigit() else name
        ratio = row["seconds"] / bare
        print(f"{title:24}{row['seconds']:10.2f}{ratio:11.2f}{row['peak']:9.0f}", flush=True)


def measure(name, source):
    import cv2
    import numpy as np
    import skimage.data

    from eusr.predict_files import FileUpscaler
    from misc.export import loading
    from misc.images import image_files

    photo = cv2.resize(skimage.data.coffee(), SIZE[::-1], interpolation=cv2.INTER_AREA)
    with tempfile.TemporaryDirectory() as folder:
        path, target = (pathlib.Path(folder, file) for file in ("photo.jpg", "large.png"))
        image_files.write_image(path, photo)
        if name == "bicubic":

            def run():
                large = cv2.resize(photo, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)
                assert large.shape == (SCALE * SIZE[0], SCALE * SIZE[1], 3)
        else:
            model = loading.restore_trained(source)
            if name == "network":
                function = model.compiled("output", SCALE)
                batch = photo[None].astype(np.float32)

                def run():
                    function(batch).numpy()
            else:
                upscaler = FileUpscaler(model, SCALE, int(name) if name.isdigit() else None)

                def run():
                    upscaler(path, target)

        if name != "bicubic":
            small = np.zeros((1, 32, 32, 3), np.float32)
            (function if name == "network" else upscaler._function)(small)  # traced
        start = time.process_time()
        run()
        seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak": peak}


if __name__ == "__main__":
    main()
