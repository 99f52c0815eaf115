"""Models by their name on the Hugging Face hub, such as `openai-community/gpt2`.

The download is huggingface_hub's own work: its cache, its mirrors (HF_ENDPOINT), its offline switch
(HF_HUB_OFFLINE=1, with which only the cache is looked into). Rejected: downloads of our own, which would have
to learn resuming, tokens and mirrors anew. Nothing is executed of what is fetched: code of a repository is not
even asked for.

    gpt2 generate openai-community/gpt2 "The meaning of"
"""

from __future__ import annotations

from pathlib import Path

from gpt2.errors import FetchError, need

WANTED = ["*.json", "*.txt", "*.bpe", "*.safetensors", "pytorch_model*.bin"]
"""What Hugging Face's folder of a GPT-2 consists of; TensorFlow's, Flax's and ONNX's copies are left out."""


def download(name: str) -> Path:
    """The folder of a hub model in the local cache, fetched if it is not there; `FetchError` when it cannot be.

    Raises `MissingExtra` without the package huggingface_hub.
    """
    need("huggingface_hub", "hub")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(name, allow_patterns=WANTED))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise FetchError(
            f"there is no folder {name}, and the hub gives no model of that name ({reason}); "
            "check the name and the network, or give a folder"
        ) from None
