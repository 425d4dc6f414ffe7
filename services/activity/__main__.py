"""python -m services.activity"""

from services.activity.settings import Settings
from services.activity.wiring import serve
from shared.service import run

if __name__ == "__main__":
    run("activity", Settings, serve)
