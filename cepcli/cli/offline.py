"""`cep offline`: datasets, and learning from them alone."""

import typer

from cepcli.cli.offline_data import collect, list_datasets, show_dataset
from cepcli.cli.offline_label import label
from cepcli.cli.offline_learn import bc, cql, cql_prior, evaluate_offline, iql, td3_bc

app = typer.Typer(no_args_is_help=True, help="Datasets, and learning from them alone.")
app.command()(collect)
app.command("list")(list_datasets)
app.command("show")(show_dataset)
app.command()(label)
app.command("cql")(cql)
app.command("cql-prior")(cql_prior)
app.command("bc")(bc)
app.command("iql")(iql)
app.command("td3-bc")(td3_bc)
app.command("eval")(evaluate_offline)
