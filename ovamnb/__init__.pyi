from .course.exercises import check
from .course.predictions import predict
from .course.progress import progress
from .crf import dense_crf
from .images import record_image
from .inversion import invert
from .maps import AttentionMaps
from .masks import load_mask, polygon_mask, save_mask
from .notebook import setup_notebook
from .optimize import optimize_token
from .pipelines import load_pipeline
from .plot.figures import contact_sheet, overlay, show, show_labels
from .recipe import TokenRecipe
from .recorder import record
from .refine import binarize, complete, resize, weigh
from .segmentation import segment
from .tokens import Token, load_tokens, save_tokens
from .trace import Trace

__all__ = [
    "AttentionMaps",
    "Token",
    "TokenRecipe",
    "Trace",
    "binarize",
    "check",
    "complete",
    "contact_sheet",
    "dense_crf",
    "invert",
    "load_mask",
    "load_pipeline",
    "load_tokens",
    "optimize_token",
    "overlay",
    "polygon_mask",
    "predict",
    "progress",
    "record",
    "record_image",
    "resize",
    "save_mask",
    "save_tokens",
    "segment",
    "setup_notebook",
    "show",
    "show_labels",
    "weigh",
]
