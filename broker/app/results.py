"""Opens the store of result files: a folder, or S3 where the configuration names a bucket."""

from __future__ import annotations

from broker.adapters.result_dir import DirectoryResults
from broker.app.loop import StartError
from broker.config.settings import JobSettings
from broker.ports.results import ResultStore


def result_store(settings: JobSettings) -> ResultStore:
    """The store that ``jobs.results`` names.

    Raises:
        StartError: What it needs is not installed.
    """
    if not settings.results:
        return DirectoryResults(settings.result_dir)
    try:
        # Late: it needs the extra s3, which few install.
        from broker.adapters.result_s3 import S3Results
    except ImportError as error:
        text = "jobs.results names a bucket, which needs the extra s3: pip install 'querybroker-server[s3]'"
        raise StartError(text) from error
    return S3Results(settings.results, settings.result_dir)
