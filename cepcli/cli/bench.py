"""`cep bench`: the measurements behind the claims; the last line under --json is one object."""

from typing import Annotated

import typer

from cepcli.cli.options import JsonOption, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Measure scoring and cache speed on this machine.")


@app.command()
def prior(
    candidates: Annotated[str, typer.Option(help="Numbers of candidate actions.")] = "4,8,20",
    repeats: Annotated[int, typer.Option(min=1, help="Timed repeats of each way.")] = 5,
    json: JsonOption = False,
) -> None:
    """Token-tree scoring against one forward pass of prompt + action per candidate."""
    from cepcli.experiments.bench_prior import bench_prior

    result = bench_prior(_numbers(candidates), repeats)
    rows = [
        [n, f"{result['ms'][n]['naive']:.0f}", f"{result['ms'][n]['tree']:.0f}", f"{speedup:.1f}×"]
        for n, speedup in result["speedup"].items()
    ]
    if not json:
        print_table("ms per state", ["candidates", "naive", "token tree", "speed-up"], rows)
        typer.echo(f"largest difference of a score: {result['max_abs_difference']:.1e}")
    else:
        print_json(result)


@app.command()
def cache(
    capacities: Annotated[str, typer.Option(help="Entries in the cache.")] = "100,1000,10000",
    json: JsonOption = False,
) -> None:
    """A semantic hit from key to action: look-up, prior, posterior, sample; beside the LLM."""
    from cepcli.experiments.bench_cache import bench_cache

    result = bench_cache(_numbers(capacities))
    if json:
        print_json(result)
        return
    rows = [[k, f"{us:.0f}"] for k, us in result["lookup_posterior_us"].items()]
    print_table("median µs of a semantic hit", ["entries", "look-up + posterior"], rows)
    typer.echo(f"LLM for the same decision: {result['llm_ms']:.0f} ms")


def _numbers(text: str) -> tuple[int, ...]:
    from cepcli.errors import ConfigError

    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) >= 1 for part in parts):
        raise ConfigError(f"`{text}` is not a comma list of whole numbers, like 4,8,20.")
    return tuple(int(part) for part in parts)
