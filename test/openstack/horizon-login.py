#!/usr/bin/python3
"""Logs into the dashboard with a real browser, opens the page of servers, prints its text and keeps a picture of it.

horizon-login.py URL PICTURE; user and password as OS_USERNAME and OS_PASSWORD.
"""
import os
import sys

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

url, picture = sys.argv[1:]
options = webdriver.ChromeOptions()
options.binary_location = "/usr/bin/chromium"
quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
for flag in ["--headless=new", "--no-sandbox", "--window-size=1280,900", *quiet]:
    options.add_argument(flag)
browser = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
try:
    browser.set_page_load_timeout(120)
    wait = WebDriverWait(browser, 120)
    browser.get(url + "/auth/login/")
    wait.until(lambda page: page.find_element(By.NAME, "password").is_displayed())
    browser.find_element(By.NAME, "username").send_keys(os.environ["OS_USERNAME"])
    browser.find_element(By.NAME, "password").send_keys(os.environ["OS_PASSWORD"])
    browser.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
    wait.until(lambda page: "/auth/login" not in page.current_url)
    browser.get(url + "/project/instances/")
    wait.until(lambda page: page.find_elements(By.CSS_SELECTOR, "table#instances tbody tr"))
    print(browser.title)
    print(browser.find_element(By.TAG_NAME, "body").text)
    browser.save_screenshot(picture)
finally:
    browser.quit()
