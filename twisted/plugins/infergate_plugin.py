from twisted.application.service import ServiceMaker

infergate = ServiceMaker(
    "infergate", "infergate.tap", "An inference gateway in front of one backend.", "infergate"
)
