"""The tokenizer: a byte-level BPE learned from the training text.

Rules: every string can be encoded (all 256 bytes are in the vocabulary) and is decoded to itself; an encoded text
begins with the begin token, so that each of its bytes is predicted from something.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

BEGIN, END, PAD = SPECIAL = ["<|begin|>", "<|end|>", "<|pad|>"]
BEGIN_ID, END_ID, PAD_ID = range(3)


def learn(texts: Sequence[str], *, vocabulary: int) -> Tokenizer:
    """Return a tokenizer of *vocabulary* tokens, trained on *texts*."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=SPECIAL,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, BEGIN_ID)])
    return tokenizer


def write(tokenizer: Tokenizer, folder: Path, *, positions: int) -> None:
    """Write tokenizer.json, and the tokenizer_config.json with which transformers finds its special tokens."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": PAD,
        "model_input_names": ["input_ids", "attention_mask"],
        "padding_side": "right",
        "model_max_length": positions,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8", newline="\n")
