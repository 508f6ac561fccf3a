"""Which doors there are: every address of accounts."""

from django.contrib.auth.views import LogoutView, PasswordResetDoneView
from django.urls import path

from accounts import invitation_views, views

urlpatterns = [
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
    path("profile/", views.profile, name="profile"),
    path("activity/", views.own_activity, name="activity"),
]
