"""Token optimisation: from annotated images to a token whose map is their mask."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import torch
from torch import Tensor

from .masks import as_mask
from .objective import Goal
from .plumbing import checks
from .plumbing.english import with_article
from .recipe import TOKEN_RECIPES, TokenRecipe
from .select import Blocks
from .tokens import Token, alike, fingerprint
from .trace import Trace

Watcher = Callable[[int, Tensor, float], object]
"""(number of the evaluation, class vector (dim,), loss): called at each evaluation of the loss."""


def optimize_token(
    traces: Trace | Sequence[Trace],
    masks,
    *,
    init: str | Tensor | Token,
    word: str | None = None,
    recipe: str | TokenRecipe = "fast",
    image: int | Sequence[int] = 0,
    queries: str | None = None,
    blocks: Blocks | None = None,
    held_out: tuple | None = None,
    patience: int = 8,
    watch: Watcher | None = None,
    **changes,
) -> Token:
    """Learn from one or several annotated images a token whose map is their mask.

        with ov.record(pipe) as trace:
            image = pipe("a photograph of a cat").images[0]
        token = ov.optimize_token(trace, ov.load_mask("cat.png"), init="cat")
        other_trace.maps(token)["cat"]

    `traces`, `masks`: one of each or a list of each; a mask is anything that `ovamnb.masks.as_mask` takes, of
        the image's proportions. `image`: which image of each trace.
    `init`: where to begin: a word (its state in "a photograph of a …"), a `Token`, or states (token, dim),
        the background's and the class's last.
        `word`: the token's name, where it is not `init`'s.
    `recipe`: "fast", "paper" or a `TokenRecipe`; `changes` are fields of it, such as proximity=0.3.
    `queries`, `blocks`: as for `Trace.maps`.
    `held_out`: a further (trace, mask) or (trace, mask, image): the token is then the one with the smallest
        loss on it, and the search ends when that has not improved for `patience` evaluations. Without it,
        the smallest loss on the masks counts.
    `watch` is called at each evaluation with its number, the class vector (dim,) and the loss.

    Raises ValueError for masks that are empty, full, not binary or not of the image's proportions, for traces
    of different models, for words that cannot be encoded and for settings out of range; TypeError for
    arguments of a wrong kind; FloatingPointError where the queries or the loss are not finite.
    """
    if isinstance(recipe, str) and recipe not in TOKEN_RECIPES:
        known = " or ".join(map(repr, TOKEN_RECIPES))
        raise ValueError(f"There is no recipe '{recipe}': say {known}, or give a TokenRecipe.")
    recipe = TOKEN_RECIPES[recipe] if isinstance(recipe, str) else recipe
    recipe = checks.instance("recipe", recipe, TokenRecipe, "'fast', 'paper' or a TokenRecipe")
    recipe = recipe.changed(changes)
    if recipe.optimizer == "lbfgs" and (idle := sorted({"gamma", "step_size"} & changes.keys())):
        raise ValueError(f"L-BFGS has no {' and no '.join(idle)}: say optimizer='adam' or 'sgd' beside it.")
    checks.whole("patience", patience, 1, why="counts evaluations")
    checks.function("watch", watch, "a function of (number, vector, loss)")
    if word is not None:
        checks.instance("word", word, str, "a name for the token")
    traces, masks, places = _pairs(traces, masks, image)
    check_trace, check_mask, check_place = _held_out(held_out)
    _require_one_model(traces if check_trace is None else [*traces, check_trace])
    begin = _beginning(traces[0], init, word, recipe)

    def goal(trace: Trace, mask: Tensor, place: int) -> Goal:
        return Goal(trace, mask, begin.background, recipe, image=place, queries=queries, blocks=blocks)

    goals = [goal(*pair) for pair in zip(traces, masks, places, strict=True)]
    check = None if check_trace is None else goal(check_trace, check_mask, check_place)
    search = _Search(begin, goals, check, recipe, patience, watch)
    search.run()
    settings = {key: value for key, value in asdict(recipe).items() if value is not None}
    settings |= {"images": len(goals), "held out": check is not None}
    return replace(
        begin,
        class_=search.best.cpu(),
        model=traces[0].model,
        fingerprint=fingerprint(traces[0].key_weights),
        losses=tuple(search.losses),
        settings=settings,
    )


class _Search:
    """One optimisation: the best class vector so far, and every loss on the way to it."""

    def __init__(
        self,
        begin: Token,
        goals: Sequence[Goal],
        check: Goal | None,
        recipe: TokenRecipe,
        patience: int,
        watch: Watcher | None,
    ) -> None:
        self.begin = begin.class_.to(goals[0].device)
        self.range = (begin.class_ - begin.start).square().sum().item()
        if not self.range:
            raise ValueError(
                "The class vector and the start vector are the same, so that the map says nothing: begin "
                "with a word."
            )
        self.vector = self.begin.clone().requires_grad_(True)  # (dim,)
        self.goals, self.check, self.recipe = goals, check, recipe
        self.patience, self.watch = patience, watch
        self.best, self.smallest, self.since = self.begin, math.inf, 0
        self.losses: list[float] = []

    def run(self) -> None:
        recipe, rounds = self.recipe, self.recipe.evaluations
        if recipe.optimizer == "lbfgs":
            optimizer = torch.optim.LBFGS(
                [self.vector],
                lr=recipe.learning_rate,
                max_iter=recipe.evaluations,
                max_eval=recipe.evaluations,
                history_size=20,
                line_search_fn="strong_wolfe",
            )
            rounds = 1
        else:
            kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.SGD
            optimizer = kind([self.vector], lr=recipe.learning_rate)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, recipe.step_size, recipe.gamma)

        def evaluate() -> Tensor:
            optimizer.zero_grad()
            loss = self.loss()
            loss.backward()
            return loss.detach()

        try:
            # Under a caller's torch.no_grad there would be no gradients.
            with torch.inference_mode(False), torch.enable_grad():
                for _ in range(rounds):
                    optimizer.step(evaluate)
                    schedule.step()
        except _Enough:
            pass

    def loss(self) -> Tensor:
        if len(self.losses) >= self.recipe.evaluations:  # a line search may want a few more
            raise _Enough
        fit = sum(goal.loss(self.vector.to(goal.device)).to(self.begin) for goal in self.goals)
        moved = (self.vector - self.begin).square().sum() / self.range
        loss = fit / len(self.goals) + self.recipe.proximity * moved
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(
                f"The loss is {value} in evaluation {len(self.losses)}: either the queries are not finite "
                "(is the image black? record with dtype=torch.float32), or the learning rate is too high."
            )
        self.losses.append(value)
        self.keep(value)
        if self.watch is not None:
            self.watch(len(self.losses) - 1, self.vector.detach().clone(), value)
        return loss

    def keep(self, value: float) -> None:
        """Remember the best vector; end after `patience` evaluations without a better held-out loss."""
        if self.check is not None:
            with torch.no_grad():
                value = self.check.loss(self.vector.to(self.check.device)).item()
        self.since += 1
        if value < self.smallest:
            self.best, self.smallest, self.since = self.vector.detach().clone(), value, 0
        elif self.check is not None and self.since >= self.patience:
            raise _Enough


class _Enough(Exception):
    """The search is over; raised from inside an optimiser's line search."""


def _pairs(traces, masks, image) -> tuple[list[Trace], list[Tensor], list[int]]:
    one = isinstance(traces, Trace)
    traces = [traces] if one else checks.entries("traces", traces, "traces, or one trace")
    for trace in traces:
        checks.instance("Each of the traces", trace, Trace, "a Trace")
    masks = [masks] if one else checks.entries("masks", masks, "masks, one for each trace")
    places = list(image) if checks.is_list(image) else [image] * len(traces)
    if not traces or not len(traces) == len(masks) == len(places):
        raise ValueError(
            f"Each trace needs a mask: there are {len(traces)} traces, {len(masks)} masks and {len(places)} "
            "image numbers."
        )
    return traces, [as_mask(mask) for mask in masks], places


def _held_out(given) -> tuple[Trace, Tensor, int] | tuple[None, None, int]:
    """The held-out trace, mask and number of the image; (None, None, 0) where nothing is held out."""
    if given is None:
        return None, None, 0
    parts = list(given) if isinstance(given, tuple | list) else []
    if len(parts) not in (2, 3) or not isinstance(parts[0], Trace):
        raise TypeError(
            f"held_out is a pair (trace, mask) or (trace, mask, image), not {checks.shown(given)}."
        )
    return parts[0], as_mask(parts[1]), parts[2] if len(parts) == 3 else 0


def _require_one_model(traces: Sequence[Trace]) -> None:
    first = fingerprint(traces[0].key_weights)
    if not all(alike(first, fingerprint(trace.key_weights)) for trace in traces[1:]):
        raise ValueError("These traces are of different models: optimise one token for each model.")


def _beginning(trace: Trace, init, word: str | None, recipe: TokenRecipe) -> Token:
    """The token to begin with, on the CPU: a word in its text, or what was given."""
    if isinstance(init, Token):
        states = trace.text_of(init).states.float().cpu()
        return Token(word or init.word, states[-1], states[:-1])
    if isinstance(init, str):
        text = trace.text_of(f"a photograph of {with_article(init)}")
        place = text.find(init)[-1]
        state = text.states[place].mean(dim=0) if recipe.subtokens == "mean" else text.states[place[-1]]
        others = [i for i in range(len(text.states)) if i not in place]
        background = text.states[:1] if recipe.background == "start" else text.states[others]
        return Token(word or init, state.float().cpu(), background.float().cpu())
    states = trace.text_of(init).states.float().cpu()
    checks.finite("init", states, "give a word's states, or the word")
    if len(states) < 2:
        raise ValueError(
            "Begin with a word, a Token, or states (token, dim): background, and the class last."
        )
    return Token(word or "token", states[-1], states[:-1])
