"""What the demonstration tells: tables on the terminal, and a page with pictures."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from rich.console import Console
from rich.table import Table

from node.demo.course import Told

_TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)


def print_tables(told: Told, console: Console) -> None:
    """What came in, what each pipeline did and how long it took, what came back."""
    came = Table("role", "modality", "instances", "state", "reason", title="What came in", title_justify="left")
    for one in told.arrived:
        came.add_row(one.role, one.modality, str(one.instances), one.state, one.reason)
    console.print(came)
    ran = Table("job", "pipeline", "state", "seconds", "verdict", "sent to", title="What ran", title_justify="left")
    for job in told.jobs:
        result = job["result"]
        sent = ", ".join(f"{one['peer']} ({one['proved_instances']} {one['state']})" for one in job["deliveries"])
        verdict = result["verdict"] if result else job["reason"] or ""
        ran.add_row(str(job["id"]), job["pipeline"], job["state"], f"{job['seconds']:.1f}", verdict, sent)
    console.print(ran)
    back = Table("peer", "instances", title="What came back", title_justify="left")
    for peer, count in told.received.items():
        back.add_row(peer, str(count))
    console.print(back)


def write_page(told: Told, page: Path) -> None:
    """Write the same as HTML, with the pictures beside it."""
    pictures = [(picture, picture.path.relative_to(page.parent)) for picture in told.pictures]
    html = _TEMPLATES.get_template("demo.html").render(told=told, pictures=pictures)
    page.write_text(html, encoding="utf-8")
