"""`cep offline`: datasets, and learning from them alone."""

import typer

from cepcli.cli.offline_data import collect, list_datasets, show_dataset
from cepcli.cli.offline_label import label

app = typer.Typer(no_args_is_help=True, help="Datasets, and learning from them alone.")
app.command()(collect)
app.command("list")(list_datasets)
app.command("show")(show_dataset)
app.command()(label)
