"""Which doors there are to second factors; below ``/accounts/``."""

from django.urls import path

from accounts.second_factor import views

urlpatterns = [
    path("login/second-factor/", views.login_second_step, name="login_second_step"),
    path("login/second-factor/question/", views.login_question, name="login_question"),
    path("login/second-factor/recovery/", views.login_recovery, name="login_recovery"),
    path("login/second-factor/recovery/<str:token>/", views.login_recovery_link, name="login_recovery_link"),
    path("security/second-factor/", views.overview, name="second_factor"),
    path("security/second-factor/app/", views.begin_app, name="second_factor_begin_app"),
    path("security/second-factor/app/confirm/", views.confirm_app, name="second_factor_confirm_app"),
    path("security/second-factor/passkey/", views.add_passkey, name="second_factor_passkey"),
    path("security/second-factor/passkey/question/", views.passkey_question, name="second_factor_passkey_question"),
    path("security/second-factor/question/", views.question, name="second_factor_question"),
    path("security/second-factor/codes/", views.codes, name="second_factor_codes"),
    path("security/second-factor/codes/text/", views.codes_as_text, name="second_factor_codes_as_text"),
    path("security/second-factor/codes/kept/", views.codes_are_kept, name="second_factor_codes_are_kept"),
    path("security/second-factor/<uuid:factor_id>/", views.detail, name="second_factor_detail"),
    path("security/second-factor/<uuid:factor_id>/remove/", views.remove, name="second_factor_remove"),
]
