"""Made samples in the shape of Taobao's display advertising data, with interests planted in the histories.

What is planted
- Categories belong to clusters, brands to categories. A person browses one cluster for a while and then turns to
  another, so their behaviours come in runs; some behaviours stray anywhere.
- A history holds the latest behaviours before the row, most recent first, as in the converted public data.
- The click's log-odds are linear in the interest in the ad's cluster: the sum over the steps of the history of
  `(1 - RECENCY) * RECENCY ** step` where the step is of that cluster. So the latest steps matter most, and a long
  history in another order means another interest. The ad's brand among the latest steps adds a little; ads, people
  and positions differ a little of their own.

Ads are drawn so that each has the same chance to meet a person who is interested in it. Then no single value of an ad,
a person or a history says much about clicks: a model has to read the history against the ad. The best AUC that any
model can reach is that of the true probabilities; it is computed on the rows made and written beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from intarsia.core.errors import DataError
from intarsia.core.files import replacing, write_json
from intarsia.data.taobao.columns import COLUMNS, MAX_HISTORY, PRICE_BUCKETS
from intarsia.data.taobao.lists import join_lists

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

DAYS = 8
CLUSTERS = 8
CATEGORIES = 40
BRANDS = 300
ADS = 1200
CUSTOMERS = 300
RECENCY = 0.7
SWITCH = 0.12
"""Chance that a behaviour opens a run in another cluster."""
STRAY = 0.12
"""Chance that a behaviour strays from the run's cluster."""
LOYAL = 0.7
"""Chance that a behaviour of a run is about the person's usual brand of the cluster."""
AIMED = 0.4
"""Chance that an ad is drawn from the cluster of the history's latest run."""
INTEREST_WEIGHT = 6.0
BRAND_WEIGHT = 1.0
OFFSET = -2.8


@dataclass(frozen=True)
class Generated:
    """What `generate` wrote.

    Attributes:
        train: Rows of the first seven days.
        test: Rows of the last day.
        truth: JSON with the facts below and the cluster of each category.
        bayes_auc: AUC of the true probabilities on the test rows, which no model exceeds but by luck.
        rows: Rows of `train` and `test`.
        click_rate: Share of clicks among all rows.
    """

    train: Path
    test: Path
    truth: Path
    bayes_auc: float
    rows: dict[str, int]
    click_rate: float


def generate(
    out_dir: str | Path, *, num_users: int = 4000, num_rows: int = 150_000, mean_history: float = 8.0, seed: int = 17
) -> Generated:
    """Writes `train.csv`, `test.csv` and `truth.json`; the same arguments give the same files.

    Args:
        out_dir: Folder, made where it is missing.
        num_users: People.
        num_rows: Rows of both files together; the last day, about an eighth of them, is the test file.
        mean_history: Steps of a history on average, before the cut at 50.
        seed: Source of all draws.

    Raises:
        DataError: A number is too small for the data to show anything, or no row has been clicked on some day.
    """
    if num_users < 10 or num_rows < 100 or mean_history < 1:
        raise DataError(
            "made data need at least 10 users, 100 rows and 1 step of history on average. Received: "
            f"num_users={num_users}, num_rows={num_rows}, mean_history={mean_history}. Ask for more."
        )
    rng = np.random.default_rng(seed)
    shop = _Shop.draw(rng)
    people = _people(rng, num_users)
    user = rng.integers(num_users, size=num_rows)
    day = np.sort(rng.random(num_rows) * DAYS)
    history = _histories(rng, shop, user, day, num_users, mean_history)
    ad = _ads(rng, shop, history)
    logit = (
        OFFSET
        + INTEREST_WEIGHT * _interest(shop.category_cluster[history.category], shop.ad_cluster[ad], history)
        + BRAND_WEIGHT * _interest(history.brand, shop.ad_brand[ad], history)
        + shop.ad_effect[ad]
        + people.effect[user]
    )
    position = rng.integers(2, size=num_rows)
    probability = 1 / (1 + np.exp(-(logit + 0.2 * position)))
    click = rng.random(num_rows) < probability
    buy = click & (rng.random(num_rows) < 0.1)
    frame = pl.concat(
        [
            pl.DataFrame({"clk": click.astype(np.int8), "buy": buy.astype(np.int8)}),
            pl.DataFrame({"pid": pl.Series(["430539_1007", "430548_1007"])[position]}),
            shop.ads[ad],
            people.profiles[user],
            history.lists(shop),
        ],
        how="horizontal",
    ).select(COLUMNS)
    last = day >= DAYS - 1
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", ~last), ("test", last)):
        if not 0 < click[rows].sum() < rows.sum():
            raise DataError(
                f"the {name} part needs clicked and other rows. Received: {num_rows} rows in all. Ask for more."
            )
        with replacing(folder / f"{name}.csv") as aside:
            frame.filter(rows).write_csv(aside, include_header=False)
    out = Generated(
        folder / "train.csv",
        folder / "test.csv",
        folder / "truth.json",
        area_under_curve(click[last], probability[last]),
        {"train": int((~last).sum()), "test": int(last.sum())},
        float(click.mean()),
    )
    write_json(
        out.truth,
        {
            "bayes_auc": round(out.bayes_auc, 6),
            "bayes_auc_train": round(area_under_curve(click[~last], probability[~last]), 6),
            "rows": out.rows,
            "click_rate": round(out.click_rate, 6),
            "mean_history": round(float(history.length.mean()), 3),
            "num_users": num_users,
            "seed": seed,
            "category_clusters": dict(zip(shop.category_ids.tolist(), shop.category_cluster.tolist(), strict=True)),
        },
    )
    return out


def area_under_curve(label: npt.NDArray[np.bool_], score: F64) -> float:
    """Chance that a clicked row scores above another; ties count half."""
    from scipy.stats import rankdata

    positive = int(label.sum())
    above = rankdata(score)[label].sum() - positive * (positive + 1) / 2
    return float(above / (positive * (len(label) - positive)))


@dataclass(frozen=True)
class _Shop:
    """Categories, brands and ads. Ids are what the files show, everything else counts from 0."""

    category_ids: npt.NDArray[np.str_]
    category_cluster: I64
    brand_ids: npt.NDArray[np.str_]
    brand_category: I64
    ad_category: I64
    ad_brand: I64
    ad_cluster: I64
    ad_effect: F64
    ads: pl.DataFrame

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Shop:
        category_cluster = rng.permutation(np.arange(CATEGORIES) % CLUSTERS)
        brand_category = rng.permutation(np.arange(BRANDS) % CATEGORIES)
        ad_brand = rng.permutation(np.arange(ADS) % BRANDS)
        ad_category = brand_category[ad_brand]
        # A customer sells in one category, and a campaign is one customer's.
        customer = _pick(rng, rng.permutation(np.arange(CUSTOMERS) % CATEGORIES), ad_category)
        campaign = customer * 2 + rng.integers(2, size=ADS)
        category_ids = _distinct(rng, CATEGORIES, 1, 12_000)
        brand_ids = _distinct(rng, BRANDS, 100, 460_000)
        price = rng.normal(rng.uniform(12, 32, CATEGORIES)[ad_category], 4).round().astype(np.int64)
        ads = pl.DataFrame(
            {
                "adgroup_id": _distinct(rng, ADS, 1, 846_000),
                "cate_id": category_ids[ad_category],
                "campaign_id": _distinct(rng, 2 * CUSTOMERS, 1, 420_000)[campaign],
                "customer": _distinct(rng, CUSTOMERS, 1, 255_000)[customer],
                "brand": brand_ids[ad_brand],
                "price": np.clip(price, 0, PRICE_BUCKETS - 1),
            }
        )
        effect = rng.normal(0, 0.25, ADS)
        return cls(
            category_ids, category_cluster, brand_ids, brand_category, ad_category, ad_brand,
            category_cluster[ad_category], effect, ads,
        )  # fmt: skip


@dataclass(frozen=True)
class _People:
    profiles: pl.DataFrame
    effect: F64


def _people(rng: np.random.Generator, count: int) -> _People:
    def level(name: str, values: int, first: int = 0) -> pl.Series:
        return pl.Series(name, rng.integers(first, first + values, size=count))

    gender = rng.integers(1, 3, size=count)
    age = rng.integers(1, 7, size=count)
    profiles = pl.DataFrame(
        [
            pl.Series("user_id", _distinct(rng, count, 1, 1_141_730)),
            level("cms_segid", 97),
            pl.Series("cms_group_id", age + 6 * (gender - 1)),
            pl.Series("final_gender_code", gender),
            pl.Series("age_level", age),
            pl.Series("pvalue_level", rng.choice(["", "1", "2", "3"], count, p=[0.5, 0.2, 0.2, 0.1])),
            level("shopping_level", 3, 1),
            level("occupation", 2),
            level("new_user_class_level", 4, 1),
        ]
    )
    return _People(profiles, rng.normal(0, 0.25, count) + 0.1 * (age - 3.5))


@dataclass(frozen=True)
class _Histories:
    """Windows of the rows into the behaviours of all people, padded.

    Attributes:
        category: (N, 50) category of each step, most recent first; -1 past the end.
        brand: (N, 50) brand of each step; -1 past the end.
        length: (N,) steps.
        run: (N,) cluster that the person browses now; -1 where there is no history.
    """

    category: I64
    brand: I64
    length: I64
    run: I64

    def lists(self, shop: _Shop) -> pl.DataFrame:
        """The two list columns as text."""
        present = self.category >= 0
        return pl.DataFrame(
            {
                "tag_category_list": join_lists(pl.Series(shop.category_ids[self.category[present]]), self.length),
                "tag_brand_list": join_lists(pl.Series(shop.brand_ids[self.brand[present]]), self.length),
            }
        )


def _histories(
    rng: np.random.Generator, shop: _Shop, user: I64, day: F64, num_users: int, mean_history: float
) -> _Histories:
    """Draws everybody's behaviours in the order of time, and cuts the window of each row out of them."""
    before = rng.exponential(mean_history / 2, num_users)
    daily = rng.exponential(mean_history / DAYS, num_users)
    total = np.floor(before + daily * DAYS).astype(np.int64) + 1
    first = np.cumsum(total) - total
    owner = np.repeat(np.arange(num_users), total)
    # A run's cluster is that of its first behaviour: one of the person's three favourites, or any.
    opens = rng.random(len(owner)) < SWITCH
    opens[first] = True
    favourites = rng.integers(CLUSTERS, size=(num_users, 3))
    favourite = favourites[owner, rng.integers(3, size=len(owner))]
    drawn = np.where(rng.random(len(owner)) < 0.75, favourite, rng.integers(CLUSTERS, size=len(owner)))
    run = drawn[np.maximum.accumulate(np.where(opens, np.arange(len(owner)), 0))]
    stray = rng.random(len(owner)) < STRAY
    category = _pick(rng, shop.category_cluster, np.where(stray, rng.integers(CLUSTERS, size=len(owner)), run))
    brand = _pick(rng, shop.brand_category, category)
    # In each cluster a person mostly returns to one brand.
    brand_cluster = shop.category_cluster[shop.brand_category]
    usual = _pick(rng, brand_cluster, np.tile(np.arange(CLUSTERS), num_users)).reshape(num_users, CLUSTERS)
    brand = np.where(~stray & (rng.random(len(owner)) < LOYAL), usual[owner, run], brand)
    category = shop.brand_category[brand]

    past = np.floor(before[user] + daily[user] * day).astype(np.int64)
    length = np.minimum(past, MAX_HISTORY)
    step = np.arange(MAX_HISTORY)
    place = np.maximum((first[user] + past - 1)[:, None] - step, 0)
    present = step < length[:, None]
    latest = np.where(length > 0, run[place[:, 0]], -1)
    return _Histories(np.where(present, category[place], -1), np.where(present, brand[place], -1), length, latest)


def _ads(rng: np.random.Generator, shop: _Shop, history: _Histories) -> I64:
    """One ad a row: of the cluster that the person browses now, or any."""
    count = len(history.length)
    aimed = (history.run >= 0) & (rng.random(count) < AIMED)
    return _pick(rng, shop.ad_cluster, np.where(aimed, history.run, rng.integers(CLUSTERS, size=count)))


def _interest(shown: I64, wanted: I64, history: _Histories) -> F64:
    """Weight (N,) of the steps whose entry of `shown` (N, 50) is the row's `wanted`; recent steps weigh most."""
    weight = (1 - RECENCY) * RECENCY ** np.arange(MAX_HISTORY)
    interest: F64 = ((shown == wanted[:, None]) & (history.category >= 0)) @ weight
    return interest


def _pick(rng: np.random.Generator, group: I64, wanted: I64) -> I64:
    """A random member of each wanted group, where `group` (M,) says which group each of M things belongs to."""
    order = np.argsort(group, kind="stable")
    size = np.bincount(group, minlength=int(group.max()) + 1)
    first = np.cumsum(size) - size
    picked: I64 = order[first[wanted] + (rng.random(len(wanted)) * size[wanted]).astype(np.int64)]
    return picked


def _distinct(rng: np.random.Generator, count: int, low: int, high: int) -> npt.NDArray[np.str_]:
    """`count` different numbers as text."""
    return (low + rng.choice(max(high - low, 2 * count), count, replace=False)).astype(str)
