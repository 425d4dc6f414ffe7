"""python -m services.settlement"""

from services.settlement.settings import Settings
from services.settlement.wiring import serve
from shared.service import run

if __name__ == "__main__":
    run("settlement", Settings, serve)
