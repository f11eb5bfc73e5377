from twisted.application.service import ServiceMaker

infergate_mock = ServiceMaker(
    "infergate-mock",
    "infergate.mock.tap",
    "A backend to try infergate against.",
    "infergate-mock",
)
