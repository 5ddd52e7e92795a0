"""Fields of the DocTypes that a company fills, written as in meta.py."""

from frappe import release

# Fields of Company with an account: that of this name, or else none.
ACCOUNTS = {
    "default_cash_account": "Cash",
    "default_receivable_account": "Debtors",
    "default_payable_account": "Creditors",
    "round_off_account": "Round Off",
    "write_off_account": "Write Off",
    "exchange_gain_loss_account": "Exchange Gain/Loss",
    "default_expense_account": "Cost of Goods Sold",
    "default_income_account": "Sales",
    "default_inventory_account": "Stock In Hand",
    "stock_adjustment_account": "Stock Adjustment",
    "stock_received_but_not_billed": "Stock Received But Not Billed",
    "accumulated_depreciation_account": "Accumulated Depreciation",
    "depreciation_expense_account": "Depreciation",
    "disposal_account": "Gain/Loss on Asset Disposal",
    "capital_work_in_progress_account": "Capital Work in Progress",
    "asset_received_but_not_billed": "Asset Received But Not Billed",
    **release.OWN_ACCOUNTS,
}
COST_CENTERS = ("cost_center", "round_off_cost_center", "depreciation_cost_center")

_TREE = " lft:Int rgt:Int is_group:Check disabled:Check company:Link"
_CHARGES = """charge_type:Select row_id:Data account_head:Link cost_center:Link description:Text rate:Float
    included_in_print_rate:Check account_currency:Link"""
_TEMPLATE = "title:Data is_default:Check disabled:Check company:Link tax_category:Link"

FIELDS = {
    "Company": """company_name:Data! abbr:Data! is_group:Check parent_company:Link company_description:Long
        transactions_annual_history:Long default_currency:Link country:Link chart_of_accounts:Select
        create_chart_of_accounts_based_on:Select tax_id:Data default_holiday_list:Link default_letter_head:Link
        enable_perpetual_inventory:Check=1 email:Data phone_no:Data website:Data lft:Int rgt:Int old_parent:Data """
    + " ".join(f"{name}:Link" for name in (*ACCOUNTS, *COST_CENTERS)),
    "Account": """account_name:Data account_number:Data root_type:Select report_type:Select account_currency:Link
        parent_account:Link account_type:Select tax_rate:Float freeze_account:Select balance_must_be:Select
        old_parent:Data include_in_gross:Check"""
    + _TREE,
    "Cost Center": "cost_center_name:Data cost_center_number:Data parent_cost_center:Link old_parent:Link" + _TREE,
    "Warehouse": """warehouse_name:Data account:Link email_id:Data parent_warehouse:Link old_parent:Link
        warehouse_type:Link is_rejected_warehouse:Check"""
    + _TREE,
    "Department": "department_name:Data parent_department:Link old_parent:Data" + _TREE,
    "Fiscal Year": """year:Data!* disabled:Check is_short_year:Check year_start_date:Date! year_end_date:Date!
        auto_created:Check""",
    "Fiscal Year Company": "company:Link",
    "Mode of Payment": "mode_of_payment:Data* type:Select enabled:Check=1",
    "Mode of Payment Account": "company:Link default_account:Link",
    "Item Tax Template": "title:Data company:Link disabled:Check",
    "Item Tax Template Detail": "tax_type:Link tax_rate:Float",
    "Sales Taxes and Charges": _CHARGES,
    "Sales Taxes and Charges Template": _TEMPLATE,
    "Purchase Taxes and Charges": _CHARGES + " category:Select add_deduct_tax:Select",
    "Purchase Taxes and Charges Template": _TEMPLATE,
    "Item Group": "item_group_name:Data* parent_item_group:Link old_parent:Link lft:Int rgt:Int is_group:Check",
    "UOM": "uom_name:Data* must_be_whole_number:Check enabled:Check=1",
    "Warehouse Type": "description:Text",
    "Price List": "price_list_name:Data* enabled:Check=1 buying:Check selling:Check currency:Link",
    "Stock Settings": "item_naming_by:Select valuation_method:Select default_warehouse:Link stock_uom:Link",
    "Comment": """comment_type:Select comment_email:Data subject:Text reference_doctype:Link reference_name:Data
        content:Long""",
    "Version": "ref_doctype:Link docname:Data data:Long",
    "Note": "title:Data public:Check content:Long",
}

CHILDREN = {
    "Fiscal Year": {"companies": "Fiscal Year Company"},
    "Mode of Payment": {"accounts": "Mode of Payment Account"},
    "Item Tax Template": {"taxes": "Item Tax Template Detail"},
    "Sales Taxes and Charges Template": {"taxes": "Sales Taxes and Charges"},
    "Purchase Taxes and Charges Template": {"taxes": "Purchase Taxes and Charges"},
}
