"""What the report and the model card say in the same words: where a test was played, and Markdown tables."""

ENVIRONMENTS = {("carracing", "v0"): "CarRacing-v0", ("carracing", "v3"): "CarRacing-v3", "doom": "DoomTakeCover-v0"}


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; a bar inside a cell is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def environment(task: str, view: str | None) -> str:
    """The environment's id, as papers and the hub call it."""
    return ENVIRONMENTS["doom" if task == "doom" else (task, view)]


def where(row: dict) -> str:
    """What a row of results.json was played in, and by which of Doom's agents, in words."""
    if row["task"] == "carracing":
        text = f"CarRacing, view {row['view']}"
    else:
        trained = f", trained at τ {row['trained_temperature']:g}"
        if row["env"] == "dream":
            return f"dream, τ {row['temperature']:g}" + trained * (row["temperature"] != row["trained_temperature"])
        text = f"ViZDoom{trained}"
    text += f", {row['pixels']} pixels" if row["pixels"] != "paper" else ""
    return text + (f", {row['dtype']}" if row["dtype"] != "float32" else "")
