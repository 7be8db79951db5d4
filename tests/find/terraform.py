"""A pack of six rules in a field that the server has never heard of, without a model."""

from __future__ import annotations

from pathlib import Path

from tests.packs import write

SKILL = """\
---
name: terraform
description: Rules for Terraform.
license: MIT
metadata:
  version: "1.0.0"
---
# terraform
"""
SECTIONS = """\
# Categories

## 1. State (state)

**Impact:** HIGH
**Description:** Where state lies and who writes it.

## 2. Configuration (config)

**Impact:** MEDIUM
**Description:** Modules, providers and resources.
"""
RULES = {
    "state-locking": (
        "Keep state in a backend that locks",
        "state",
        ("Error acquiring the state lock", "ConditionalCheckFailedException"),
        ("two applies at once", "remote state", "unlock"),
        (
            "Two people who apply at once overwrite the state of each other. An S3 backend with a lock "
            "lets one wait. Break a lock with force-unlock only where its holder is dead."
        ),
        'terraform {\n  backend "s3" {\n    use_lockfile = true\n  }\n}',
    ),
    "state-secrets": (
        "Keep passwords out of the state file",
        "state",
        ("sensitive values are stored in plain text",),
        ("password in tfstate", "secret leaked", "ephemeral"),
        (
            "Whatever a resource takes as an argument stands in the state in plain text, a database "
            "password too. Take it from a secret manager as an ephemeral or write-only value."
        ),
        'ephemeral "aws_secretsmanager_secret_version" "db" {\n  secret_id = "db"\n}',
    ),
    "state-plan": (
        "Apply the plan that was reviewed",
        "state",
        ("Error: Saved plan is stale",),
        ("plan in CI", "drift between plan and apply", "tfplan"),
        (
            "Between a plan and an apply without its file the world can change, so the apply does what "
            "nobody reviewed. Save the plan with -out and apply that file."
        ),
        "terraform plan -out=tfplan\nterraform apply tfplan",
    ),
    "config-for-each": (
        "Give repeated resources keys with for_each",
        "config",
        ("will be destroyed and then created replacement",),
        ("count index shifts", "instances recreated after one was removed"),
        (
            "With count a resource is known by its index: remove the first of a list, and all after it "
            "are destroyed and made again. for_each knows each instance by a key."
        ),
        'resource "aws_instance" "web" {\n  for_each = toset(var.names)\n}',
    ),
    "config-providers": (
        "Pin providers and commit the lock file",
        "config",
        ("Error: Failed to query available provider packages", "Inconsistent dependency lock file"),
        ("provider upgrade broke", ".terraform.lock.hcl", "required_providers"),
        (
            "Without a constraint an init takes the newest provider, and a major release breaks the "
            "configuration. Pin it in required_providers and commit the dependency lock file."
        ),
        'required_providers {\n  aws = { source = "hashicorp/aws", version = "~> 5.0" }\n}',
    ),
    "config-modules": (
        "Pin the version of each module",
        "config",
        ("Error: Module not installed", "Error: Module version requirements have changed"),
        ("module source ref", "init -upgrade", "registry module"),
        (
            "A module from git without a ref follows its main branch, so two machines plan different "
            "things. Name a tag in the source, or a version for the registry."
        ),
        'module "vpc" {\n  source  = "terraform-aws-modules/vpc/aws"\n  version = "5.1.0"\n}',
    ),
}
COVERED = {
    "Error acquiring the state lock": "state-locking",
    "two people apply at once and overwrite the state": "state-locking",
    "database password is readable in terraform.tfstate": "state-secrets",
    "keep secrets out of state": "state-secrets",
    "Error: Saved plan is stale": "state-plan",
    "apply in CI did something else than the reviewed plan": "state-plan",
    "removing one element of the list recreates all other instances": "config-for-each",
    "count or for_each": "config-for-each",
    "Error: Failed to query available provider packages": "config-providers",
    "should I commit .terraform.lock.hcl": "config-providers",
    "Error: Module not installed": "config-modules",
    "pin a module to a git tag": "config-modules",
}
FOREIGN = ("how to bake bread", "git rebase conflict", "No module named 'psycopg2'")


def terraform(folder: Path) -> Path:
    """The pack, written into `folder`."""
    files: dict[str, str | bytes] = {"SKILL.md": SKILL, "rules/_sections.md": SECTIONS}
    for name, (title, category, symptoms, aliases, text, code) in RULES.items():
        rows = "".join(f'  - "{each}"\n' for each in symptoms)
        names = "".join(f'  - "{each}"\n' for each in aliases)
        files[f"rules/{name}.md"] = (
            f"---\ntitle: {title}\ncategory: {category}\nimpact: HIGH\nimpactDescription: x\n"
            f"tags:\n  - terraform\nsymptoms:\n{rows}aliases:\n{names}---\n# {title}\n\n{text}\n\n"
            f"## Incorrect\n\n```hcl\nx = 1\n```\n\n## Correct\n\n```hcl\n{code}\n```\n"
        )
    return write(folder, files)
