"""The package map as an import-linter contract: which module may import which (the rows are in pyproject.toml)."""

from fnmatch import fnmatchcase

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class PackageMap(Contract):
    """Every module has a row that lists its imports; what a row does not list is refused.

    import-linter's own contracts say what is forbidden, or who may import one module. This one is the other way
    round, so that the table reads like the map that it holds, and a new module cannot go unnoticed.
    """

    type_name = "package_map"

    everyone = fields.ListField(subfield=fields.StringField())
    rows = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Compare every import between the modules that exist with the rows."""
        root = self.session_options["root_packages"][0]
        rows = [(row.partition(":")[0].strip(), _names(row.partition(":")[2])) for row in self.rows]
        problems = []
        for module in sorted(graph.modules):
            name = module.removeprefix(root).removeprefix(".")
            own = [allowed for pattern, allowed in rows if fnmatchcase(name, pattern)]
            if not own and not graph.find_children(module) and name not in self.everyone:
                problems.append(f"{module} has no row in the package map: add one, with a reason")
            allowed = [*self.everyone, *(pattern for patterns in own for pattern in patterns)]
            for imported in sorted(graph.find_modules_directly_imported_by(module)):
                target = imported.removeprefix(root).removeprefix(".")
                if imported in graph.modules and not any(
                    fnmatchcase(target, pattern) for pattern in allowed
                ):
                    details = graph.get_import_details(importer=module, imported=imported)
                    lines = ", ".join(str(detail["line_number"]) for detail in details)
                    problems.append(
                        f"{module} imports {imported} (line {lines}), which its row does not allow"
                    )
        return ContractCheck(kept=not problems, metadata={"problems": problems})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print one line a problem."""
        for problem in check.metadata["problems"]:
            output.print_error(f"- {problem}", bold=False)
        output.new_line()


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
