"""Which doors there are: every address of accounts."""

from django.contrib.auth.views import LogoutView, PasswordResetDoneView
from django.urls import path

from accounts import address_views, invitation_views, life_cycle_views, own_views, password_views, session_views, views
from accounts.second_factor import urls as second_factor_urls

urlpatterns = [
    path("", views.own_account, name="own_account"),
    path("signup/", views.signup, name="signup"),
    path("invitation/", invitation_views.invitation, name="invitation"),
    path("invitation/ask/", invitation_views.ask_for_invitation, name="ask_for_invitation"),
    path("invitation/opened/", invitation_views.invitation_opened, name="invitation_opened"),
    path("invitation/<str:token>/", invitation_views.invitation_link, name="invitation_link"),
    path("invitations/", invitation_views.invitation_list, name="invitation_list"),
    path("invitations/<uuid:invitation_id>/", invitation_views.invitation_detail, name="invitation_detail"),
    path("invitations/<uuid:invitation_id>/link/", invitation_views.invitation_show, name="invitation_show"),
    *(
        path(
            f"invitations/<uuid:invitation_id>/{action}/",
            invitation_views.invitation_action,
            {"action": action},
            name=f"invitation_{action}",
        )
        for action in invitation_views.ACTIONS
    ),
    path("login/", views.Login.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("verify/", views.verify_email, name="verify_email"),
    path("verify/again/", views.resend_verification, name="resend_verification"),
    path("verify/<str:token>/", views.verify_email_link, name="verify_email_link"),
    path("password/reset/", views.RequestPasswordReset.as_view(), name="password_reset"),
    path("password/reset/sent/", PasswordResetDoneView.as_view(), name="password_reset_done"),
    path(
        "password/reset/<str:uidb64>/<str:token>/",
        views.ResetPassword.as_view(),
        name="password_reset_confirm",
    ),
    path("password/change/", views.ChangePassword.as_view(), name="password_change"),
    path("password/meter/", password_views.password_meter, name="password_meter"),
    path("password/suggestion/", password_views.password_suggestion, name="password_suggestion"),
    path("security/sessions/", session_views.session_list, name="session_list"),
    path("security/sessions/end-others/", session_views.end_other_sessions, name="end_other_sessions"),
    path("security/sessions/<uuid:session_id>/end/", session_views.end_session, name="end_session"),
    path("confirm/", session_views.Confirm.as_view(), name="confirm"),
    path("delete/", life_cycle_views.delete_account, name="delete_account"),
    path("delete/cancel/", life_cycle_views.cancel_erasure, name="cancel_erasure"),
    path("delete/cancel/<str:token>/", life_cycle_views.cancel_erasure_link, name="cancel_erasure_link"),
    path("email/", address_views.change_address, name="change_address"),
    path("email/keep/", address_views.give_up_address, name="give_up_address"),
    path("email/confirm/", address_views.confirm_address, name="confirm_address"),
    path("email/confirm/<str:token>/", address_views.confirm_address_link, name="confirm_address_link"),
    path("email/undo/", address_views.undo_address, name="undo_address"),
    path("email/undo/<str:token>/", address_views.undo_address_link, name="undo_address_link"),
    path("profile/", views.profile, name="profile"),
    path("security/sign-ins/", own_views.own_sign_ins, name="sign_ins"),
    path("data/", own_views.own_data, name="own_data"),
    path("data/<uuid:export_id>/", own_views.download_data, name="download_data"),
    path("activity/", views.own_activity, name="activity"),
    *second_factor_urls.urlpatterns,
]
