from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from config.rows import StaleRow
from tests.hostapp.tasks import services
from tests.hostapp.tasks.models import Task


class TaskForm(forms.ModelForm[Task]):
    """A new task, or another version of one; it knows which version it was made from."""

    tags = forms.CharField(label=_("Tags"), help_text=_("With commas between them."), max_length=500, required=False)
    version = forms.IntegerField(widget=forms.HiddenInput, min_value=1)

    class Meta:
        model = Task
        fields = ["title", "text", "priority", "due"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["version"] = self.instance.version
        if self.instance.pk:
            self.initial["tags"] = ", ".join(self.instance.tags.order_by("name").values_list("name", flat=True))

    def clean_tags(self) -> set[str]:
        names = {name.strip() for name in self.cleaned_data["tags"].split(",")} - {""}
        if any(len(name) > 50 for name in names):
            raise ValidationError(_("A tag has at most 50 letters."), code="max_length")
        return names

    def write(self) -> bool:
        """Write the valid form; False, with an error to show, if somebody else was faster."""
        values = {name: self.cleaned_data[name] for name in (*self.Meta.fields, "tags")}
        if not self.instance.pk:
            services.add_task(self.instance.owner, **values)
            return True
        self.instance.version = self.cleaned_data["version"]
        try:
            services.edit_task(self.instance, **values)
        except StaleRow:
            text = _("This task was changed since you opened it. Open it again to see how.")
            self.add_error(None, ValidationError(text, code="stale"))
            return False
        return True
