"""The mock domain's records and tools. A to-do list on the agent's side, a notification inbox on the user's."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from harness.tasks.tau2.generic import transfer
from harness.tasks.tau2.tool import Tool, table

Status = Literal["pending", "completed"]


class Todo(BaseModel):
    """An entry of the list."""

    model_config = ConfigDict(title="Task")  # upstream's name for it, which a model sees where arguments do not fit

    task_id: str
    title: str
    description: str | None = None
    status: Status


class User(BaseModel):
    """Who entries belong to."""

    user_id: str
    name: str
    tasks: list[str]


class Notification(BaseModel):
    """A message in the user's inbox."""

    notification_id: str
    message: str
    status: Literal["unread", "read"] = "unread"
    task_id: str | None = None


class MockTools:
    """The list."""

    def __init__(self, db: Any) -> None:
        self.db = db

    def create_task(self, user_id: str, title: str, description: str | None = None) -> Todo:
        """
        Add a task to a user's list.

        Args:
            user_id: The id of the user whose task it is.
            title: What the task is called.
            description: What is to be done, in more words.
        """
        if user_id not in self.db.users:
            raise ValueError(f"User {user_id} not found")
        task_id = f"task_{len(self.db.tasks) + 1}"
        todo = Todo(task_id=task_id, title=title, description=description, status="pending")
        self.db.tasks[task_id] = todo
        self.db.users[user_id].tasks.append(task_id)
        return todo

    def update_task_status(self, task_id: str, status: Status) -> Todo:
        """
        Set the status of a task.

        Args:
            task_id: The id of the task.
            status: Its new status.
        """
        if task_id not in self.db.tasks:
            raise ValueError(f"Task {task_id} not found")
        todo: Todo = self.db.tasks[task_id]
        todo.status = status
        return todo

    def get_users(self) -> list[User]:
        """List all users."""
        return list(self.db.users.values())

    def assert_number_of_tasks(self, user_id: str, expected_number: int) -> bool:
        """Whether a user has `expected_number` tasks."""
        if user_id not in self.db.users:
            raise ValueError(f"User {user_id} not found")
        return len(self.db.users[user_id].tasks) == expected_number

    def assert_task_status(self, task_id: str, expected_status: Status) -> bool:
        """Whether a task has this status."""
        if task_id not in self.db.tasks:
            raise ValueError(f"Task {task_id} not found")
        return bool(self.db.tasks[task_id].status == expected_status)


class MockUserTools:
    """The inbox."""

    def __init__(self, db: Any) -> None:
        self.db = db

    def check_notifications(self) -> list[Notification]:
        """List all notifications in your inbox."""
        return list(self.db.notifications.values())

    def dismiss_notification(self, notification_id: str) -> str:
        """
        Mark a notification as read.

        Args:
            notification_id: The id of the notification.
        """
        if notification_id not in self.db.notifications:
            raise ValueError(f"Notification {notification_id} not found")
        self.db.notifications[notification_id].status = "read"
        return f"Notification {notification_id} dismissed"

    def add_notification(self, notification_id: str, message: str, task_id: str | None = None) -> Notification:
        """Put a notification into the inbox. No tool: tasks begin with it."""
        notification = Notification(notification_id=notification_id, message=message, task_id=task_id)
        self.db.notifications[notification_id] = notification
        return notification

    def assert_notification_status(self, notification_id: str, expected_status: str) -> bool:
        """Whether a notification has this status."""
        if notification_id not in self.db.notifications:
            raise ValueError(f"Notification {notification_id} not found")
        return bool(self.db.notifications[notification_id].status == expected_status)


def _tool(method: Any, *, changes_state: bool) -> Tool:
    return Tool(name=method.__name__, changes_state=changes_state, run=method, described=lambda: method)


AGENT = table(
    [
        _tool(MockTools.create_task, changes_state=True),
        _tool(MockTools.get_users, changes_state=False),
        _tool(MockTools.update_task_status, changes_state=True),
        transfer("MockTools"),
    ]
)
USER = table(
    [
        _tool(MockUserTools.check_notifications, changes_state=False),
        _tool(MockUserTools.dismiss_notification, changes_state=True),
    ]
)
