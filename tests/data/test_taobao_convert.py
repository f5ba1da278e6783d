"""Conversion of the public raw files: hand-made files, rows worked out by hand."""

import numpy as np
import polars as pl
import pytest

from intarsia.core.errors import DataError
from intarsia.data.taobao.__main__ import main
from intarsia.data.taobao.columns import COLUMNS
from intarsia.data.taobao.convert import convert

T0 = 1_494_000_000
"""2017-05-06 00:00:00, UTC+8."""
DAY = 86_400

FILES = {
    "raw_sample.csv": f"""user,time_stamp,adgroup_id,pid,nonclk,clk
1,{T0 + DAY + 5},11,430548_1007,1,0
1,{T0 + 100},10,430548_1007,0,1
2,{T0 + 100},12,430539_1007,0,1
3,{T0 + DAY},10,430539_1007,0,1
1,{T0 + 7 * DAY},10,430548_1007,0,1
2,{T0 + 7 * DAY - 1},99,430539_1007,1,0
""",
    "ad_feature.csv": """adgroup_id,cate_id,campaign_id,customer,brand,price
10,500,71,81,900,7.0
11,501,72,82,NULL,199.0
12,500,73,83,900,99999999.0
""",
    # The last header ends in a space in the published file too.
    "user_profile.csv": "userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,"
    """occupation,new_user_class_level\x20
1,5,2,2,3,,3,0,4
2,6,8,1,2,1,3,1,
""",
    "behavior_log.csv": f"""user,time_stamp,btag,cate,brand
1,{T0 + 100},pv,777,778
1,{T0 + 99},pv,500,900
1,{T0 - 50},cart,501,901
1,{T0 + 100 + DAY},buy,500,900
2,{T0 + 50},fav,600,NULL
2,{T0 + 60},pv,601,951
2,{T0 + 60},pv,602,952
2,{T0 + 101 + DAY},buy,500,900
3,{T0 + DAY},buy,500,900
3,-2082816000,pv,1,1
""",
}


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def rows_of(path):
    return pl.read_csv(path, has_header=False, new_columns=list(COLUMNS), infer_schema=False).fill_null("").rows()


def test_rows_worked_out_by_hand(raw, tmp_path):
    done = convert(raw, tmp_path / "out", share=1)
    one, two, three = ("5", "2", "2", "3", "", "3", "0", "4"), ("6", "8", "1", "2", "1", "3", "1", ""), ("",) * 8
    # floor(3 log2 8) = 9, floor(3 log2 200) = 22, the highest price is in the last bucket.
    ad10, ad11 = ("10", "500", "71", "81", "900"), ("11", "501", "72", "82", "")
    ad12, ad99 = ("12", "500", "73", "83", "900"), ("99", "", "", "", "")
    assert rows_of(done.train) == [
        # The purchase comes exactly one day later: it counts. The behaviour of the same second is not yet history.
        ("1", "1", "430548_1007", *ad10, "1", *one, "500|501", "900|901", "9"),
        # The purchase comes one second too late. Behaviours without a brand are left out; of one second, the later line
        # is the more recent.
        ("1", "0", "430539_1007", *ad12, "2", *two, "602|601", "952|951", "49"),
        # A purchase in the second of the impression did not follow it. An impossible time is no history.
        ("1", "0", "430539_1007", *ad10, "3", *three, "", "", "9"),
        ("0", "0", "430548_1007", *ad11, "1", *one, "777|500|501", "778|900|901", "22"),
        # One second before the last day. The ad is unknown, and so is its price.
        ("0", "0", "430539_1007", *ad99, "2", *two, "500|602|601", "900|952|951", "0"),
    ]
    assert rows_of(done.test) == [
        ("1", "0", "430548_1007", *ad10, "1", *one, "500|777|500|501", "900|778|900|901", "9"),
    ]
    assert (done.rows, done.users, done.behaviours) == ({"train": 5, "test": 1}, 3, 8)
    assert (done.clicks, done.purchases) == (4, 1)


def test_purchases_need_a_click(raw, tmp_path):
    path = raw / "raw_sample.csv"
    path.write_text(path.read_text().replace(f"1,{T0 + 100},10,430548_1007,0,1", f"1,{T0 + 100},10,430548_1007,1,0"))
    assert convert(raw, tmp_path / "out", share=1).purchases == 0


def test_only_the_latest_behaviours_are_kept(raw, tmp_path):
    done = convert(raw, tmp_path / "out", share=1, max_history=2)
    assert rows_of(done.test)[0][17:19] == ("500|777", "900|778")


def test_behaviours_after_an_impression_never_change_its_row(raw, tmp_path):
    before = rows_of(convert(raw, tmp_path / "a", share=1).train)
    later = "".join(f"{user},{T0 + 7 * DAY - 1},pv,{user},{user}\n" for user in (1, 2, 3))
    path = raw / "behavior_log.csv"
    path.write_text(path.read_text() + later)
    after = convert(raw, tmp_path / "b", share=1)
    assert rows_of(after.train) == before
    assert rows_of(after.test)[0][17] == "1|500|777|500|501"


def test_order_of_columns_does_not_matter(raw, tmp_path):
    expected = rows_of(convert(raw, tmp_path / "a", share=1).train)
    for name in FILES:
        frame = pl.read_csv(raw / name, infer_schema=False)
        frame.select(reversed(frame.columns)).write_csv(raw / name)
    assert rows_of(convert(raw, tmp_path / "b", share=1).train) == expected


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_share_keeps_whole_people(raw, tmp_path, share):
    people = np.arange(4000)
    lines = [f"{user},{T0 + day * DAY},10,430548_1007,1,0" for user in people for day in (0, 1)]
    (raw / "raw_sample.csv").write_text("user,time_stamp,adgroup_id,pid,nonclk,clk\n" + "\n".join(lines) + "\n")
    done = convert(raw, tmp_path / "a", share=share)
    assert done.users == pytest.approx(4000 * share, rel=0.1)
    assert done.rows == {"train": done.users, "test": done.users}
    kept = {row[8] for row in rows_of(done.train)}
    assert {row[8] for row in rows_of(convert(raw, tmp_path / "b", share=share).train)} == kept
    others = {row[8] for row in rows_of(convert(raw, tmp_path / "c", share=share, seed=18).train)}
    assert len(kept & others) / len(kept) == pytest.approx(share, abs=0.1)


def test_missing_files_are_named(raw, tmp_path):
    (raw / "behavior_log.csv").unlink()
    (raw / "ad_feature.csv").unlink()
    with pytest.raises(DataError, match=r"Missing: ad_feature.csv, behavior_log.csv. Received: raw_sample.csv, us"):
        convert(raw, tmp_path / "out")
    with pytest.raises(DataError, match=r"no such folder. Download .* https://tianchi.aliyun.com/dataset/56"):
        convert(tmp_path / "nowhere", tmp_path / "out")


def test_missing_columns_are_named(raw, tmp_path):
    path = raw / "behavior_log.csv"
    path.write_text(path.read_text().replace("btag,cate", "kind,category", 1))
    with pytest.raises(DataError, match=r"behavior_log.csv must name .* Missing: btag, cate. Received: user, time"):
        convert(raw, tmp_path / "out", share=1)


def test_cells_of_another_kind_are_refused(raw, tmp_path):
    path = raw / "ad_feature.csv"
    path.write_text(path.read_text().replace("71", "seventy"))
    with pytest.raises(DataError, match=r"ad_feature.csv must hold numbers .* Received: .*seventy"):
        convert(raw, tmp_path / "out", share=1)


def test_impressions_without_an_outcome_are_refused(raw, tmp_path):
    path = raw / "raw_sample.csv"
    path.write_text(path.read_text().replace(f"3,{T0 + DAY},10,430539_1007,0,1", f"3,{T0 + DAY},10,430539_1007,0,"))
    with pytest.raises(DataError, match=r"a clk of 0 or 1. Received: 1 other rows, the first \{'user': 3,"):
        convert(raw, tmp_path / "out", share=1)


def test_one_day_cannot_be_split(raw, tmp_path):
    (raw / "raw_sample.csv").write_text(
        f"user,time_stamp,adgroup_id,pid,nonclk,clk\n1,{T0},10,a,0,1\n1,{T0 + DAY - 1},10,a,0,1\n"
    )
    with pytest.raises(DataError, match=r"must hold several days.*Received: one day, 2 rows"):
        convert(raw, tmp_path / "out", share=1)


@pytest.mark.parametrize("share", [0, 1.5])
def test_share_is_checked(raw, tmp_path, share):
    with pytest.raises(DataError, match=rf"`share` must be above 0 .* Received: share={share}"):
        convert(raw, tmp_path / "out", share=share)


def test_a_failed_conversion_leaves_no_files(raw, tmp_path):
    path = raw / "behavior_log.csv"
    path.write_text(path.read_text().replace(f"{T0 + 60}", "noon"))
    with pytest.raises(DataError, match="noon"):
        convert(raw, tmp_path / "out", share=1)
    assert not list((tmp_path).glob("out/*"))


def test_command_line(raw, tmp_path, capsys):
    assert main(["convert", str(raw), str(tmp_path / "out"), "--share", "1"]) == 0
    assert "5 rows" in capsys.readouterr().out
    (raw / "raw_sample.csv").unlink()
    assert main(["convert", str(raw), str(tmp_path / "out")]) == 3
    assert "Missing: raw_sample.csv" in capsys.readouterr().err
