"""The entries of the catalogue: files as their publishers write them, in small, and what is read of them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from intarsia.config.schema import LogConfig
from intarsia.core.errors import DataError
from intarsia.data.catalogue import RawLog, resolve_dataset
from intarsia.data.catalogue.amazon import CATEGORIES, CATEGORIES_2023
from intarsia.data.catalogue.entry import dataset_names
from intarsia.data.catalogue.fetch import ByHand, SevenZipDownload, Together, ZipDownload
from intarsia.data.interactions.build import build_interactions
from intarsia.recommender.pipeline import pipeline_from


def load(name: str, folder: Path) -> RawLog:
    return resolve_dataset(name)[0].load(folder)


def rows(frame: pl.DataFrame | None) -> list[dict[str, object]]:
    assert frame is not None
    return frame.to_dicts()


def pack(path: Path, text: str) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write(text)


# What holds for all of them


@pytest.mark.parametrize("name", dataset_names())
def test_every_entry_names_its_sources_and_its_licence(name: str) -> None:
    entry, folder = resolve_dataset(name)
    assert entry.name == name
    assert folder is None
    assert entry.sources
    assert len(entry.licence) > 10
    for source in entry.sources:
        address = source.page if isinstance(source, ByHand) else source.name
        assert all(one.startswith(("https://", "the wheel ")) for one in address.split(", "))


@pytest.mark.parametrize("name", dataset_names())
def test_the_defaults_of_every_entry_are_a_pipeline(name: str) -> None:
    """Strictly read, with a model that reads all of the features."""
    defaults: Any = resolve_dataset(name)[0].defaults
    features = [f["input_names"][0] for f in defaults["feature_config"]["features"]]
    groups = [{"group_name": "deep", "feature_names": features}, {"group_name": "wide", "feature_names": features}]
    model = {"model_class": "DeepFM", "feature_groups": groups, "deepfm": {"dnn": {"hidden_units": [8]}}}
    config = pipeline_from({**defaults, "model_config": model}).config
    assert config.data_config.dataset == name
    assert isinstance(config.data_config.log, LogConfig)


@pytest.mark.parametrize("name", dataset_names())
def test_folders_without_the_files_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "other.txt").touch()
    with pytest.raises(DataError, match=rf"^{tmp_path} must hold .*`.*Received: other\.txt"):
        load(name, tmp_path)
    with pytest.raises(DataError, match="Received: no such folder"):
        load(name, tmp_path / "none")


def test_names_of_the_catalogue_are_those_of_the_modules() -> None:
    assert {n for n in dataset_names() if n.startswith("amazon-2")} == {f"amazon-2023-{n}" for n in CATEGORIES_2023}
    assert {f"amazon-{n}" for n in CATEGORIES} <= set(dataset_names())
    assert {"ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m", "ml-latest-small", "steam", "yelp"} <= set(dataset_names())


def test_hashes_are_known_or_said_to_be_unknown() -> None:
    def checked(name: str) -> list[bool]:
        return [source.checked for source in resolve_dataset(name)[0].sources]

    assert all(checked(name) == [True] for name in ("ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m", "lastfm"))
    assert checked("ml-latest-small") == [False]
    assert checked("amazon-beauty") == [False, False]


@pytest.mark.parametrize("name", ["yelp", "diginetica", "taobao"])
def test_what_a_login_guards_is_told_and_not_tried(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTARSIA_DATA", str(tmp_path))
    with pytest.raises(DataError) as caught:
        resolve_dataset(name)[0].load()
    message = str(caught.value)
    assert message.startswith(f"{name} is not here. ")
    assert "so a person has to download them: get " in message
    assert message.endswith(f"into {tmp_path / name}; or name the folder that holds them: `dataset: {name}:FOLDER`.")


# MovieLens


def dat(folder: Path) -> None:
    (folder / "ratings.dat").write_text("1::1193::5::978300760\n2::661::3::978302109\n")
    movies = "661::James and the Giant Peach (1996)::Animation|Children's\n1193::Misérables, Les (1995)::Drama\n"
    (folder / "movies.dat").write_bytes(movies.encode("latin-1"))
    (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n")


def test_movielens_1m(tmp_path: Path) -> None:
    dat(tmp_path)
    raw = load("ml-1m", tmp_path)
    assert rows(raw.interactions) == [
        {"user_id": 1, "item_id": 1193, "rating": 5.0, "timestamp": 978300760},
        {"user_id": 2, "item_id": 661, "rating": 3.0, "timestamp": 978302109},
    ]
    assert rows(raw.items)[1] == {
        "item_id": "1193", "title": "Misérables, Les", "genres": "Drama", "release_year": "1995"
    }  # fmt: skip
    assert rows(raw.users)[1] == {
        "user_id": "2", "gender": "M", "age": "56", "occupation": "16", "zip_code": "70072"
    }  # fmt: skip


def test_movielens_with_a_header(tmp_path: Path) -> None:
    inside = tmp_path / "ml-20m"
    inside.mkdir()
    pack(inside / "ratings.csv.gz", "userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n7,3,4.0,1112484676\n")
    (inside / "movies.csv").write_text(
        'movieId,title,genres\n2,Jumanji (1995),Adventure|Fantasy\n3,"American President, The (1995)",Comedy\n'
        "4,Babylon 5,(no genres listed)\n"
    )
    raw = load("ml-20m", tmp_path)
    assert rows(raw.interactions)[0] == {"user_id": 1, "item_id": 2, "rating": 3.5, "timestamp": 1112486027}
    assert rows(raw.items) == [
        {"item_id": "2", "title": "Jumanji", "genres": "Adventure|Fantasy", "release_year": "1995"},
        {"item_id": "3", "title": "American President, The", "genres": "Comedy", "release_year": "1995"},
        {"item_id": "4", "title": "Babylon 5", "genres": None, "release_year": None},
    ]


def test_movielens_in_atomic_files(tmp_path: Path) -> None:
    (tmp_path / "ml-1m.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t5\t978300760\n2\t2\t1\t978300761\n"
    )
    (tmp_path / "ml-1m.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tgenre:token_seq\n"
        "2\tJumanji\t1995\tAdventure Fantasy\n"
    )
    raw = load("ml-1m", tmp_path)
    assert raw.interactions.columns == ["user_id", "item_id", "rating", "timestamp"]
    assert rows(raw.items) == [
        {"item_id": "2", "title": "Jumanji", "release_year": "1995", "genres": "Adventure|Fantasy"}
    ]


def test_movielens_of_the_publisher_unpacks_what_is_read() -> None:
    for name, wanted in (
        ("ml-1m", {"ratings.dat", "movies.dat", "users.dat"}),
        ("ml-32m", {"ratings.csv", "movies.csv"}),
    ):
        source = resolve_dataset(name)[0].sources[0]
        assert isinstance(source, ZipDownload)
        assert set(source.members.values()) == wanted
        assert source.url == f"https://files.grouplens.org/datasets/movielens/{name}.zip"


# Amazon


def test_amazon_of_2014(tmp_path: Path) -> None:
    (tmp_path / "ratings_Beauty.csv").write_text("A39H,0205616461,5.0,1369699200\nA3JM,0558925278,3.0,1355443200\n")
    pack(
        tmp_path / "meta_Beauty.json.gz",
        "{'asin': '0205616461', 'title': \"Bio-Active Men's Lotion\", 'categories': [['Beauty', 'Skin Care']], "
        "'brand': 'Bio'}\n{'asin': '0558925278', 'imUrl': 'http://x', 'categories': [['Beauty']]}\n",
    )
    raw = load("amazon-beauty", tmp_path)
    assert rows(raw.interactions)[0] == {
        "user_id": "A39H", "item_id": "0205616461", "rating": 5.0, "timestamp": 1369699200
    }  # fmt: skip
    assert rows(raw.items) == [
        {"item_id": "0205616461", "title": "Bio-Active Men's Lotion", "brand": "Bio", "categories": "Beauty|Skin Care"},
        {"item_id": "0558925278", "title": None, "brand": None, "categories": "Beauty"},
    ]


def test_reviews_of_amazon_of_2014(tmp_path: Path) -> None:
    pack(
        tmp_path / "reviews_Video_Games_5.json.gz",
        '{"reviewerID": "A2HD", "asin": "0700099867", "helpful": [8, 12], "reviewText": "fun, \\"asin\\": no", '
        '"overall": 1.0, "unixReviewTime": 1341792000}\n'
        '{"reviewerID": "A1", "asin": "0700099867", "overall": 4.0, "unixReviewTime": 1341792001}\n',
    )
    raw = load("amazon-video-games", tmp_path)
    assert raw.items is None
    assert rows(raw.interactions)[0] == {
        "user_id": "A2HD", "item_id": "0700099867", "rating": 1.0, "timestamp": 1341792000.0
    }  # fmt: skip


def test_amazon_of_2023_counts_in_milliseconds(tmp_path: Path) -> None:
    (tmp_path / "All_Beauty.csv").write_text(
        "user_id,parent_asin,rating,timestamp\nAE1,B00,5.0,1588687728923\nAE2,B01,1.0,5\n"
    )
    assert rows(load("amazon-2023-beauty", tmp_path).interactions)[0] == {
        "user_id": "AE1", "item_id": "B00", "rating": 5.0, "timestamp": 1588687728.923
    }  # fmt: skip


def test_files_of_amazon_come_together_or_from_the_next_address() -> None:
    first, second = resolve_dataset("amazon-books")[0].sources
    assert isinstance(first, Together)
    assert isinstance(second, Together)
    assert [source.name.rpartition("/")[2] for source in first.sources] == ["ratings_Books.csv", "meta_Books.json.gz"]
    assert "snap.stanford.edu" in second.name


# Others


def test_gowalla(tmp_path: Path) -> None:
    pack(
        tmp_path / "loc-gowalla_totalCheckins.txt.gz",
        "0\t2010-10-19T23:55:27Z\t30.2359091167\t-97.7951395833\t22847\n"
        "1\t2010-10-18T22:17:43Z\t30.2691029532\t-97.7493953705\t420315\n",
    )
    raw = load("gowalla", tmp_path)
    assert rows(raw.interactions)[0] == {"user_id": 0, "item_id": 22847, "timestamp": 1287532527.0}
    assert raw.interactions.columns == ["user_id", "item_id", "timestamp"]


@pytest.mark.parametrize("name", ["gowalla-lightgcn", "yelp2018-lightgcn"])
def test_splits_that_papers_share(tmp_path: Path, name: str) -> None:
    (tmp_path / "train.txt").write_text("0 1 2\n1 2 3\n")
    (tmp_path / "test.txt").write_text("0 3\n1 1\n")
    raw = load(name, tmp_path)
    assert raw.interactions.rows() == [(0, 1), (0, 2), (1, 2), (1, 3)]
    assert raw.test is not None
    assert raw.test.rows() == [(0, 3), (1, 1)]


def test_lastfm(tmp_path: Path) -> None:
    (tmp_path / "user_artists.dat").write_text("userID\tartistID\tweight\n2\t51\t13883\n3\t52\t11690\n")
    (tmp_path / "artists.dat").write_text(
        'id\tname\turl\tpictureURL\n51\tDuran Duran\thttp://x\thttp://y\n52\tMoi "dix"\thttp://x\n'
    )
    raw = load("lastfm", tmp_path)
    assert rows(raw.interactions)[0] == {"user_id": 2, "item_id": 51, "weight": 13883}
    assert rows(raw.items) == [{"item_id": "51", "title": "Duran Duran"}, {"item_id": "52", "title": 'Moi "dix"'}]


def test_steam(tmp_path: Path) -> None:
    pack(
        tmp_path / "steam_reviews.json.gz",
        "{u'username': u'Chaos Syren', u'hours': 0.1, u'product_id': u'725280', u'date': u'2017-12-17', u'text': "
        "u\"it's, u'date': no\", u'early_access': False}\n"
        "{u'username': u'Caf\\xe9', u'product_id': u'725280', u'date': u'2018-01-02', u'text': u''}\n",
    )
    pack(
        tmp_path / "steam_games.json.gz",
        "{u'genres': [u'Action', u'Indie'], u'app_name': u'Lost Kitty', u'id': u'725280', u'developer': u'Koto'}\n"
        "{u'title': u'Without an id'}\n{u'title': u'Again', u'id': u'725280'}\n",
    )
    raw = load("steam", tmp_path)
    assert rows(raw.interactions) == [
        {"user_id": "Chaos Syren", "item_id": 725280, "timestamp": 1513468800.0},
        {"user_id": "Café", "item_id": 725280, "timestamp": 1514851200.0},
    ]
    assert rows(raw.items) == [
        {"item_id": "725280", "title": "Lost Kitty", "genres": "Action|Indie", "developer": "Koto"}
    ]


def test_yelp(tmp_path: Path) -> None:
    (tmp_path / "yelp_academic_dataset_review.json").write_text(
        '{"review_id":"K","user_id":"mh_","business_id":"XQ","stars":3.0,"text":"x\\ny","date":"2018-07-07 22:09:11"}\n'
        '{"review_id":"L","user_id":"OyoG","business_id":"7A","stars":5.0,"text":"","date":"2012-01-03 15:28:18"}\n'
    )
    (tmp_path / "yelp_academic_dataset_business.json").write_text(
        '{"business_id":"XQ","name":"St Honore","city":"Philadelphia","categories":"Food, Tea, Bakeries"}\n'
        '{"business_id":"7A","name":"Kung Fu","city":"Tampa","categories":null}\n'
    )
    raw = load("yelp", tmp_path)
    assert rows(raw.interactions)[0] == {
        "user_id": "mh_", "item_id": "XQ", "rating": 3.0, "timestamp": 1531001351.0
    }  # fmt: skip
    assert [row["categories"] for row in rows(raw.items)] == ["Food|Tea|Bakeries", None]
    assert [row["title"] for row in rows(raw.items)] == ["St Honore", "Kung Fu"]


def test_yoochoose(tmp_path: Path) -> None:
    (tmp_path / "yoochoose-clicks.dat").write_text(
        "1,2014-04-07T10:51:09.277Z,214536502,0\n2,2014-04-07T13:56:37.614Z,214662742,S\n"
    )
    assert rows(load("yoochoose", tmp_path).interactions)[0] == {
        "user_id": 1, "item_id": 214536502, "timestamp": 1396867869.277
    }  # fmt: skip
    assert isinstance(resolve_dataset("yoochoose")[0].sources[0], SevenZipDownload)


@pytest.mark.parametrize(
    "header", ["sessionId;userId;itemId;timeframe;eventdate", "session_id;user_id;item_id;timeframe;eventdate"]
)
def test_diginetica(tmp_path: Path, header: str) -> None:
    (tmp_path / "train-item-views.csv").write_text(
        f"{header}\n1;NA;81766;526309;2016-05-09\n2;5;31331;1500;2016-05-10\n"
    )
    (tmp_path / "product-categories.csv").write_text("itemId;categoryId\n81766;16\n31331;60\n")
    raw = load("diginetica", tmp_path)
    assert rows(raw.interactions) == [
        {"user_id": 1, "item_id": 81766, "timestamp": 1462752000 + 526.309},
        {"user_id": 2, "item_id": 31331, "timestamp": 1462838400 + 1.5},
    ]
    assert rows(raw.items)[0] == {"item_id": "81766", "category": "16"}


def test_taobao_reads_page_views_of_the_nine_days(tmp_path: Path) -> None:
    (tmp_path / "UserBehavior.csv").write_text(
        "1,2268318,2520377,pv,1511544070\n1,2333346,2520771,buy,1511561733\n1,2576651,149192,pv,1511572885\n"
        "2,2268318,2520377,pv,1512316799\n2,2268318,2520377,pv,1512316800\n3,5,6,pv,-1234\n"
    )
    raw = load("taobao", tmp_path)
    assert raw.interactions.rows() == [
        (1, 2268318, 1511544070),
        (1, 2576651, 1511572885),
        (2, 2268318, 1512316799),
    ]
    assert rows(raw.items) == [
        {"item_id": "2268318", "category": "2520377"},
        {"item_id": "2576651", "category": "149192"},
    ]


def test_a_damaged_file_of_taobao_is_told(tmp_path: Path) -> None:
    (tmp_path / "UserBehavior.csv").write_text("1,2268318,2520377,pv,1511544070\nx,y,z,pv,now\n")
    with pytest.raises(DataError, match=r"UserBehavior\.csv: every line must be `user,item,category,behaviour,time`"):
        load("taobao", tmp_path)


def test_what_is_read_becomes_a_log(tmp_path: Path) -> None:
    """With the roles of the entry, side tables included."""
    dat(tmp_path)
    entry = resolve_dataset("ml-1m")[0]
    defaults: Any = entry.defaults
    roles = LogConfig.model_validate({**defaults["data_config"]["log"], "positive_rating": None})
    log = build_interactions(entry.load(tmp_path), roles)
    assert log.user_ids.ids.to_list() == ["1", "2"]
    assert log.item_ids.ids.to_list() == ["661", "1193"]
    assert log.catalogue is not None
    assert log.catalogue["title"].to_list() == ["James and the Giant Peach", "Misérables, Les"]
    assert log.titles == "title"


# Real folders, where they are at hand

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.parametrize(
    ("name", "folder", "height"),
    [
        ("ml-100k", "ml-100k", 100_000),
        ("ml-latest-small", "ml-latest-small", 100_004),
        ("lastfm", "kgcn-lastfm", 92_834),
        ("gowalla-lightgcn", "gowalla", 810_128),
        ("yoochoose", "rechub-samples/matching/session_based/yoochoose", 500),
        ("diginetica", "rechub-samples/matching/session_based/diginetica", 500),
    ],
)
def test_real_folders_are_read(name: str, folder: str, height: int, tmp_path: Path) -> None:
    place = SHARED / folder
    if not place.exists():
        pytest.skip(f"{folder} is not in ../shared/data")
    sample = {"yoochoose": "yoochoose-clicks.dat", "diginetica": "train-item-views.csv"}.get(name)
    if sample is not None:  # a sample under another name
        (tmp_path / sample).symlink_to(next(place.iterdir()))
        place = tmp_path
    assert load(name, place).interactions.height == height
