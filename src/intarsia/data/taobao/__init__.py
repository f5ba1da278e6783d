"""Taobao's display advertising data: the public raw files as samples, and made data of the same shape.

`columns.COLUMNS` names the columns of both. Neither function is imported here, so that each loads only what it needs.
"""
