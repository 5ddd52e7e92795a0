"""SELECT and WHERE from Frappe's filters: the operators our users write."""

OPERATORS = {"=", "!=", ">", "<", ">=", "<=", "like", "not like", "in", "not in", "is", "between"}


def table(doctype):
    """The table of a DocType; __Auth and its kind have no prefix."""
    return doctype if doctype.startswith("__") else f"tab{doctype}"


def where(filters):
    """(" where …", values) of a dict, a list of triples, or a name."""
    if not filters:
        return "", []
    if isinstance(filters, (str, int)):
        filters = {"name": filters}
    if isinstance(filters, dict):
        triples = [(k, *_operator(v)) for k, v in filters.items()]
    else:
        triples = [_triple(row) for row in filters]
    parts, values = [], []
    for field, operator, value in triples:
        sql, more = _condition(field, operator.lower(), value)
        parts.append(sql)
        values.extend(more)
    return " where " + " and ".join(parts), values


def _operator(value):
    if isinstance(value, (list, tuple)) and len(value) == 2 and str(value[0]).lower() in OPERATORS:
        return value[0], value[1]
    return "=", value


def _triple(row):
    row = list(row)
    if len(row) == 4:  # [doctype, field, operator, value]
        row = row[1:]
    return row if len(row) == 3 else (row[0], *_operator(row[1]))


def _condition(field, operator, value):
    if operator == "is":
        empty = str(value).lower() == "not set"
        return f"coalesce(`{field}`, '') {'=' if empty else '!='} ''", []
    if operator in ("in", "not in"):
        value = list(value) if not isinstance(value, str) else value.split(",")
        if not value:
            return ("1 = 0" if operator == "in" else "1 = 1"), []
        return f"`{field}` {operator} ({', '.join(['%s'] * len(value))})", value
    if operator == "between":
        return f"`{field}` between %s and %s", list(value)
    if value is None:
        return f"`{field}` is {'not ' if operator == '!=' else ''}null", []
    return f"`{field}` {operator} %s", [value]


def select(doctype, fields, filters=None, order_by=None, limit=None, for_update=False, start=0):
    """One SELECT statement and its values."""
    clause, values = where(filters)
    columns = ", ".join(_column(field) for field in fields)
    query = f"select {columns} from `{table(doctype)}`{clause}"
    if order_by:
        query += f" order by {order_by}"
    if limit:
        query += f" limit {int(limit)} offset {int(start)}"
    if for_update:
        query += " for update"
    return query, values


def _column(field):
    plain = field.replace("_", "").isalnum()
    return f"`{field}`" if plain else field


def get_all(doctype, filters=None, fields=None, order_by="modified desc", limit=None, limit_page_length=None,
            limit_start=0, start=None, page_length=None, pluck=None, as_list=False, or_filters=None, **_):  # fmt: skip
    """Rows without any permission check, as dicts, tuples or one column."""
    import frappe

    if pluck:
        fields = [pluck]
    fields = [fields] if isinstance(fields, str) else list(fields or ["name"])
    limit = limit or limit_page_length or page_length
    query, values = select(doctype, fields, filters, order_by, limit, start=start or limit_start)
    if pluck:
        return frappe.db.sql_list(query, values)
    return frappe.db.sql(query, values, as_dict=not as_list)
