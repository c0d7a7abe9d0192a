"""Write the page that asks a saved trace in the browser: `python -m workshop.ask`."""

import argparse
from pathlib import Path

from ovamnb.plumbing.command import BEGINS_ANEW, WRONG, ends, require_writable

from .write import PROMPT, SEED, record, standalone


@ends("python -m workshop.ask", again=BEGINS_ANEW)
def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, draw, record, write."""
    parser = argparse.ArgumentParser(prog="python -m workshop.ask", description=(__doc__ or "").split(":")[0])
    parser.add_argument("--prompt", default=PROMPT, help=f"what the picture shows (default: {PROMPT})")
    parser.add_argument("--seed", type=int, default=SEED, help="of the noise it begins with")
    parser.add_argument("--out", type=Path, default=Path("build/ask"), help="folder of the page")
    args = parser.parse_args(arguments)
    with ends(parser.prog, WRONG):
        require_writable(args.out)
    recorded = record(args.out, args.prompt, args.seed)
    standalone(args.out, recorded)
    print(f"{args.out / 'index.html'}: {recorded.megabytes:.1f} MB of trace")
    print("Open it in a browser, or serve the folder, which loads a quarter less:")
    print(f"  python -m http.server --directory {args.out}")


if __name__ == "__main__":
    main()
