"""The columns of a sample file of the Taobao kind, in file order. The files have no header."""

COLUMNS = (
    "clk",
    "buy",
    "pid",
    "adgroup_id",
    "cate_id",
    "campaign_id",
    "customer",
    "brand",
    "user_id",
    "cms_segid",
    "cms_group_id",
    "final_gender_code",
    "age_level",
    "pvalue_level",
    "shopping_level",
    "occupation",
    "new_user_class_level",
    "tag_category_list",
    "tag_brand_list",
    "price",
)

MAX_HISTORY = 50
"""Latest behaviours of a row's history."""

PRICE_BUCKETS = 50
"""Values of `price`, from 0."""
