"""python -m services.calculation"""

from services.calculation.settings import Settings
from services.calculation.wiring import serve
from shared.service import run

if __name__ == "__main__":
    run("calculation", Settings, serve)
