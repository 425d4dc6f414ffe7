"""python -m services.identity"""

from services.identity.settings import Settings
from services.identity.wiring import serve
from shared.service import run

if __name__ == "__main__":
    run("identity", Settings, serve)
