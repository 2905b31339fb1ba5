"""Webhooks; admins only."""

from control_plane.client.ask import Ask, Call, get, post, segment
from control_plane.webhooks.schemas import (
    DeliveryItem,
    WebhookCreate,
    WebhookItem,
    WebhookMade,
    WebhookPatch,
    WebhookWhy,
)


class WebhooksCalls:
    @Call
    def list_webhooks(self) -> Ask[list[WebhookItem]]:
        """List webhooks by name."""
        return get(list[WebhookItem], "/webhooks")

    @Call
    def get_webhook(self, webhook_id: str) -> Ask[WebhookItem]:
        """Return one webhook."""
        return get(WebhookItem, f"/webhooks/{segment(webhook_id)}")

    @Call
    def create_webhook(self, body: WebhookCreate) -> Ask[WebhookMade]:
        """Tell an address of some topics; the secret is shown this once."""
        return post(WebhookMade, "/webhooks", body)

    @Call
    def patch_webhook(self, webhook_id: str, body: WebhookPatch) -> Ask[WebhookItem]:
        """Change a webhook; what is left out stays."""
        return Ask(WebhookItem, "PATCH", f"/webhooks/{segment(webhook_id)}", body)

    @Call
    def renew_webhook_secret(self, webhook_id: str, body: WebhookWhy) -> Ask[WebhookMade]:
        """Give a webhook another secret, shown this once."""
        return post(WebhookMade, f"/webhooks/{segment(webhook_id)}/secret", body)

    @Call
    def test_webhook(self, webhook_id: str) -> Ask[DeliveryItem]:
        """Have something sent to a webhook."""
        return post(DeliveryItem, f"/webhooks/{segment(webhook_id)}/test")

    @Call
    def webhook_deliveries(self, webhook_id: str) -> Ask[list[DeliveryItem]]:
        """List a webhook's newest deliveries."""
        return get(list[DeliveryItem], f"/webhooks/{segment(webhook_id)}/deliveries")

    @Call
    def delete_webhook(self, webhook_id: str, reason: str = "") -> Ask[WebhookItem]:
        """Forget a webhook."""
        return Ask(WebhookItem, "DELETE", f"/webhooks/{segment(webhook_id)}", query={"reason": reason})
