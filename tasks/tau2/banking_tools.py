"""The bank's tools that upstream has changed since the port was made: checks of numbers, an order, a message, a description.

Each overrides the port's method of the same name, adds upstream's change, and calls it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import ModuleType
from typing import Any

from harness.tasks.tau2 import port

MODULE = "tau2.domains.banking_knowledge.tools"
"""The module of upstream's classes: Python's message for arguments that are not an object has it, and the model sees that."""


def agent_class(modules: Mapping[str, ModuleType]) -> type:
    """The agent's class, with all that it can unlock."""
    ported: Any = port.plain_class(modules["BankingAgentTools"].BankingAgentTools)

    class KnowledgeTools(ported):  # type: ignore[misc]
        def apply_checking_account_credit_5829(self, account_id: Any, amount: Any, *rest: Any, **more: Any) -> Any:
            amount = _number(amount)
            if amount is None:
                return "Error: Invalid credit amount. Must be a number."
            return super().apply_checking_account_credit_5829(account_id, amount, *rest, **more)

        def apply_savings_account_credit_6831(self, account_id: Any, amount: Any, *rest: Any, **more: Any) -> Any:
            amount = _number(amount)
            if amount is None:
                return "Error: Invalid credit amount. Must be a number."
            return super().apply_savings_account_credit_6831(account_id, amount, *rest, **more)

        def submit_credit_limit_increase_request_7392(
            self, credit_card_account_id: Any, user_id: Any, requested_increase_amount: Any
        ) -> Any:
            submit = super().submit_credit_limit_increase_request_7392
            if not credit_card_account_id or not user_id or requested_increase_amount is None:
                return submit(credit_card_account_id, user_id, requested_increase_amount)
            amount = _number(requested_increase_amount)
            if amount is None:
                return "Error: Invalid requested_increase_amount. Must be a whole number."
            if not amount.is_integer():
                return "Error: Invalid requested_increase_amount. Must be a whole number of dollars."
            return submit(credit_card_account_id, user_id, int(amount))

        def request_temporary_debit_card_limit_increase_8374(self, *given: Any, **named: Any) -> Any:
            number = _number(named.get("new_limit"))
            if number is not None and not number.is_integer():
                return f"Error: new_limit must be an integer, got '{number}'."
            if number is not None:
                named["new_limit"] = int(number)
            return super().request_temporary_debit_card_limit_increase_8374(*given, **named)

        def approve_credit_limit_increase_5847(
            self, credit_card_account_id: Any, user_id: Any, *rest: Any, **more: Any
        ) -> Any:
            answer = super().approve_credit_limit_increase_5847(credit_card_account_id, user_id, *rest, **more)
            if answer != f"Error: Account does not belong to user '{user_id}'.":
                return answer
            return f"Error: Credit card account '{credit_card_account_id}' does not belong to user '{user_id}'."

        def file_debit_card_transaction_dispute_6281(self, *given: Any, **named: Any) -> Any:
            answer = super().file_debit_card_transaction_dispute_6281(*given, **named)
            if answer != "Error: Invalid card_action.":
                return answer
            return f"{answer} Must be one of: {['keep_active', 'freeze_pending_investigation', 'close_and_reissue']}"

        def submit_interest_discrepancy_report_7294(self, *given: Any, **named: Any) -> Any:
            """Upstream's database has no table for these reports, so none is kept."""
            answer = super().submit_interest_discrepancy_report_7294(*given, **named)
            self.db.interest_discrepancy_reports.data.clear()
            return answer

        def get_bank_account_transactions_9173(self, account_id: Any) -> Any:
            answer = super().get_bank_account_transactions_9173(account_id)
            stored = self.db.bank_account_transaction_history.data
            found = [(key, record) for key, record in stored.items() if record.get("account_id") == account_id]
            if answer.startswith("Error") or not found:
                return answer
            lines = [f"Found {len(found)} record(s) in 'bank_account_transaction_history':\n"]
            newest_first = sorted(found, key=lambda one: _date(one[1].get("date", "")), reverse=True)
            for number, (identity, record) in enumerate(newest_first, 1):
                fields = [f"   {name}: {value}" for name, value in record.items()]
                lines += [f"{number}. Record ID: {identity}", *fields, ""]
            head = (
                "Bank account transactions retrieved successfully.",
                "",
                "Executed: get_bank_account_transactions_9173",
            )
            return "\n".join([*head, f"Transactions for account {account_id}:", "\n".join(lines)])

        def open_bank_account_4821(self, user_id: Any, account_type: Any, account_class: Any) -> Any:
            return super().open_bank_account_4821(user_id, account_type, account_class)

    _describe(KnowledgeTools, ported)
    kinds = "Must be one of: 'checking', 'savings', 'business_checking', 'business_savings'"
    told = "Type of account to open. Must be one of: 'checking' (personal checking), 'savings' (personal savings), 'business_checking', 'business_savings'"
    _change(KnowledgeTools.open_bank_account_4821, kinds, told)
    args = "\n\n        Args:"
    order = "\n\n        Transactions are returned in reverse chronological order (most recent\n        first)."
    _change(KnowledgeTools.get_bank_account_transactions_9173, args, order + args)
    return KnowledgeTools


def user_class(modules: Mapping[str, ModuleType]) -> type:
    """The user's class, with all that an agent can give."""
    ported: Any = port.plain_class(modules["BankingUserTools"].BankingUserTools)
    cards = modules["BankingUserTools"].VALID_CREDIT_CARD_TYPES

    class KnowledgeUserTools(ported):  # type: ignore[misc]
        def apply_for_credit_card(
            self, card_type: Any, customer_name: Any, annual_income: Any, rho_bank_subscription: Any = False
        ) -> Any:
            income = _number(annual_income)
            if income is None and card_type in cards:
                return "Error: Invalid annual_income. Must be a number."
            income = annual_income if income is None else income
            return super().apply_for_credit_card(card_type, customer_name, income, rho_bank_subscription)

    _describe(KnowledgeUserTools, ported)
    return KnowledgeUserTools


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _date(text: Any) -> datetime:
    for form in ("%m/%d/%Y %H:%M:%S", "%m/%d/%Y"):
        try:
            return datetime.strptime(str(text), form)
        except ValueError:
            continue
    return datetime.min


def _describe(made: type, ported: type) -> None:
    """Take signatures, names and docstrings from the port: a model sees them, and they are in messages for missing arguments."""
    import inspect

    for method in (*vars(ported).values(), *vars(made).values()):
        if inspect.isfunction(method):
            method.__module__ = MODULE
    for name, method in vars(made).items():
        if inspect.isfunction(method):
            theirs = getattr(ported, name)
            method.__doc__, method.__qualname__ = theirs.__doc__, f"{made.__name__}.{name}"
            method.__signature__ = inspect.signature(theirs)  # type: ignore[attr-defined]


def _change(method: Any, before: str, after: str) -> None:
    method.__doc__ = (method.__doc__ or "").replace(before, after, 1)
